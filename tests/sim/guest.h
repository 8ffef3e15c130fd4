// SPDX-License-Identifier: LGPL-2.1-or-later
// The SimGuest is a very small virtual machine: some pages, a device state, and a program that
// counts what it sends. Each output carries a fresh random number and a hash over everything sent
// before, and the guest's state remembers that hash: so the oracle can tell whether a guest knows
// an output.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "libft/guest.h"
#include "sim/random.h"

namespace libft::sim {

struct Packet {
  std::uint64_t counter = 0;  // 1, 2, 3...
  std::uint64_t random = 0;   // Fresh: the same counter sent by another execution has another one.
  std::uint64_t chain = 0;    // Hash over all outputs up to this one.
  std::uint64_t before = 0;   // The chain before this one.
};

class SimGuest final : public Guest {
 public:
  SimGuest(std::uint32_t pages, Random entropy, std::function<void(const Packet&)> send);

  // --- the world's side ---------------------------------------------------------------------
  void boot();                        // The very first start of the guest.
  bool step(unsigned send_permille);  // A while of execution, if it runs. True: it did.
  void receive(std::uint64_t input);  // A packet for the guest, if it runs.
  void end();                         // It shuts itself down.
  void owner_pauses() { owner_paused_ = true; }
  void owner_resumes() { owner_paused_ = false; }
  bool runs() const { return alive_ && running_ && !owner_paused_ && !ended(); }
  bool alive() const { return alive_; }
  bool ended() const { return registers_.ended != 0; }
  bool owner_paused() const { return owner_paused_; }
  std::uint64_t counter() const { return registers_.counter; }
  std::uint64_t chain() const { return registers_.chain; }
  std::uint64_t hash() const;  // Of all memory and the device state.
  static std::uint64_t hash(const GuestInfo& info, std::span<const std::byte> state);

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
    std::uint64_t counter = 0, chain = 0, inputs = 0, steps = 0, ended = 0;
    std::uint64_t scratch[10] = {};
  };
  static constexpr std::uint64_t kMagic = 0x746a7567656d6973ull;

  void write(std::uint32_t page);
  void send();
  void touch(std::uint32_t page) { written_[page] = true; }
  std::byte* at(std::uint32_t page) {
    return memory_.data() + std::size_t{page} * info_.page_bytes;
  }

  Random entropy_;
  std::function<void(const Packet&)> send_;
  GuestInfo info_;
  std::vector<std::byte> memory_;
  std::vector<bool> written_;
  std::vector<std::byte> saved_;
  Registers registers_;
  bool alive_ = true, running_ = false, tracking_ = false, owner_paused_ = false;
};

}  // namespace libft::sim
