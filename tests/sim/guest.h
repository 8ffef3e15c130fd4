// SPDX-License-Identifier: LGPL-2.1-or-later
// The SimGuest is a very small virtual machine: some pages, a device state, and a program that
// counts what it sends. Each output carries a fresh random number and a hash over everything sent
// before, and the guest's state remembers that hash: so the oracle can tell whether a guest knows
// an output.
// It can be made *exact*: then what it does is a function of its state and of inputs at positions,
// fresh randomness being an input that it asks for, and it is a DeterministicGuest.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "libft/clock.h"
#include "libft/deterministic_guest.h"
#include "libft/guest.h"
#include "libft/speculative_guest.h"
#include "sim/compare/model_guest.h"
#include "sim/random.h"

namespace libft::sim {

struct Packet {
  std::uint64_t counter = 0;  // 1, 2, 3...
  std::uint64_t random = 0;   // Fresh: the same counter sent by another execution has another one.
  std::uint64_t chain = 0;    // Hash over all outputs up to this one.
  std::uint64_t before = 0;   // The chain before this one.
};

// What model guests are in device states, which name them: a world has one.
class Talks {
 public:
  explicit Talks(const Clock& clock) : clock_(clock) {}
  std::uint64_t keep(const ModelGuest& talk);
  ModelGuest at(std::uint64_t name) const;  // Its clock stood still since.
  const Clock& clock() const { return clock_; }

 private:
  struct Kept {
    ModelGuest talk;
    Time since;
  };
  static constexpr std::size_t kKeptMax = 256;

  const Clock& clock_;
  std::map<std::uint64_t, Kept> kept_;
  std::uint64_t newest_ = 0;
};

class SimGuest final : public Guest, public DeterministicGuest, public SpeculativeGuest {
 public:
  SimGuest(std::uint32_t pages, Random entropy, std::function<void(const Packet&)> send);

  // --- the world's side ---------------------------------------------------------------------
  void make_exact(unsigned send_permille);
  // It answers its clients, too; sometimes by chances of its host.
  void make_talkative(Talks& talks, unsigned own_permille, std::function<void(const Said&)> say);
  void boot();                          // The very first start of the guest.
  bool step(unsigned send_permille);    // A while of execution, if it runs. True: it did.
  void receive(std::uint64_t input);    // A packet for the guest, if it runs.
  void hear(const TcpFields& segment);  // Likewise, of a client.
  const ModelGuest* talk() const { return talk_ ? &*talk_ : nullptr; }
  void end();  // It shuts itself down.
  void owner_pauses() { owner_paused_ = true; }
  void owner_resumes() { owner_paused_ = false; }
  bool runs() const override { return alive_ && running_ && !owner_paused_ && !ended(); }
  bool alive() const { return alive_; }
  bool ended() const { return registers_.ended != 0; }
  bool owner_paused() const { return owner_paused_; }
  std::uint64_t counter() const { return registers_.counter; }
  std::uint64_t chain() const { return registers_.chain; }
  std::uint64_t hash() const;  // Of all memory and the device state.
  static std::uint64_t hash(const GuestInfo& info, std::span<const std::byte> state);

  void lose_bit() {  // As a memory does.
    registers_.scratch[kGenerator] ^= 1;
    lost_bit_ = true;
  }
  void lose_life() {  // A bit of that kind.
    registers_.ended = 1;
    lost_bit_ = true;
  }
  bool lost_bit() const { return lost_bit_; }
  void copy(const SimGuest& other);  // All that it is.
  // Mutant: what it asked for on another host is never given to it here.
  void forget_request() { forgets_request_ = registers_.scratch[kAsks] != 0; }

  // --- the DeterministicGuest facet ---------------------------------------------------------
  Result<Position> position() override { return Position{registers_.scratch[kPositions]}; }
  Status run_until(Position until) override;
  Status deliver(const GuestInput& input) override;
  Result<std::uint64_t> state_hash() override { return hash(); }
  void set_input_sink(InputSink sink) override { input_sink_ = std::move(sink); }
  void set_input_at(InputAt) override {}
  Status mark(WithHash hash, const std::function<void(const Mark&)>& there) override;
  void set_pace(unsigned) override {}
  void send_again(const GuestOutput& output) override;
  void set_output_sink(OutputSink sink) override { output_sink_ = std::move(sink); }
  Result<GuestCopy> make_copy() const override {
    return failure(Code::unsupported, "nobody here executes again");
  }
  // Mutant: what is called between a mark and its being told.
  std::function<void()> amid_mark;

  // --- the SpeculativeGuest facet -----------------------------------------------------------
  Status begin_speculation() override;
  void image_changed(const PageSet& pages) override;
  Status reload(std::span<const std::byte> state) override;
  Status run() override;
  void halt() override { running_ = false; }
  std::uint64_t hash_of_running() const;  // Not of the image.
  PageSet all_pages() const;
  bool keeps_own_pages = false;  // Mutant.

  // --- the Guest port -----------------------------------------------------------------------
  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)>) override {}
  Status start_tracking() override;
  void stop_tracking() override { tracking_ = false; }
  Status pause() override;
  Status resume() override;
  Status take_written(PageSet& written) override;
  Status save_state() override;
  Status fetch_state(std::vector<std::byte>& state) override;
  Status accepts(const GuestInfo&) const override { return {}; }
  Status probe_state(std::span<const std::byte> state) override;
  Status trial_run(StillMoment& moment) override {
    FT_ASSIGN(const auto state, moment.hold());
    return probe_state(state);
  }
  Status load_state(std::span<const std::byte> state) override;
  Status activate() override;
  void destroy() override;
  Nanos clock_lag() const override { return Nanos{0}; }

 private:
  struct Registers {
    std::uint64_t magic = kMagic;
    std::uint64_t counter = 0, chain = 0, inputs = 0, steps = 0, ended = 0, talk = 0;
    std::uint64_t scratch[10] = {};
  };
  static constexpr std::uint64_t kMagic = 0x746a7567656d6973ull;

  // Of an exact guest, in scratch: how far it is, its generator, whether it waits for randomness.
  static constexpr std::size_t kPositions = 7, kGenerator = 8, kAsks = 9;

  void write(std::uint32_t page, Random& random);
  void send(Random& random);
  void answer(std::uint64_t input, Random& random);
  void take(GuestInput input);
  void execute();
  void live_exactly();
  void touch(std::uint32_t page) { written_[page] = own_[page] = true; }
  PageNo page_no(std::uint32_t page) const;
  void lead_memory_to(std::vector<std::byte>& memory);
  std::byte* at(std::uint32_t page) {
    return memory_.data() + std::size_t{page} * info_.page_bytes;
  }

  Random entropy_;
  std::function<void(const Packet&)> send_;
  GuestInfo info_;
  std::vector<std::byte> memory_;
  std::vector<bool> written_;
  std::vector<std::byte> image_;     // Beside the memory, of a standby that runs ahead.
  std::vector<bool> own_, changed_;  // Of these two, since they were equal.
  bool ahead_ = false;
  std::vector<std::byte> saved_;
  Registers registers_;
  bool alive_ = true, running_ = false, tracking_ = false, owner_paused_ = false;
  bool exact_ = false, forgets_request_ = false, lost_bit_ = false;
  unsigned send_permille_ = 0;  // exact only
  std::uint64_t said_ = 0;      // Digest of the packets since the last mark.
  InputSink input_sink_;
  OutputSink output_sink_;
  Talks* talks_ = nullptr;
  std::optional<ModelGuest> talk_;
  std::function<void(const Said&)> say_;
};

}  // namespace libft::sim
