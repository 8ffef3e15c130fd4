// SPDX-License-Identifier: LGPL-2.1-or-later
// MemoryGuest is a virtual machine without a machine: pages, a few registers and a deterministic
// workload that the caller steps. It knows exactly what it wrote, so that tests can compare, and
// copies at memory speed, so that benchmarks can measure libft rather than a hypervisor.
// The workload may run in one thread (or in the session's own, as in simulation) while the
// session's thread calls the Guest functions: pause() waits for the write that is being done.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "libft/guest.h"

namespace libft::guest {

struct MemoryGuestOptions {
  std::uint64_t pages = 1024;    // At least 2; page 0 is the journal.
  std::uint64_t seed = 1;        // Of the workload; a standby gets its own from the state.
  std::uint64_t hole_pages = 0;  // Page numbers that are missing in the middle, as on a PC.
  bool standby = false;          // Waits for load_state() and activate() instead of running.
};

// What the guest says to the outside. `value` comes from outside too (it is not determined by the
// state), so that a counter seen with two values proves that output escaped its epoch.
struct MemoryGuestOutput {
  std::uint64_t counter = 0;
  std::uint64_t value = 0;
  auto operator<=>(const MemoryGuestOutput&) const = default;
};

class MemoryGuest final : public Guest {
 public:
  static constexpr std::uint32_t kPageBytes = 4096;
  static constexpr std::size_t kJournalEntries = kPageBytes / sizeof(MemoryGuestOutput);

  explicit MemoryGuest(const MemoryGuestOptions& options);
  MemoryGuest(const MemoryGuest&) = delete;
  MemoryGuest& operator=(const MemoryGuest&) = delete;
  ~MemoryGuest() override;

  // --- the guest's own life -----------------------------------------------------------------

  // Writes a part of each of `writes` pages (different ones, as long as there are so many), chosen
  // by the seed and all that was done before. Returns how many were written: fewer when it is not
  // running, or was paused meanwhile.
  std::uint64_t step(std::uint64_t writes);

  // Sends the next counter with `value` and notes both in the journal. False when not running.
  bool emit(std::uint64_t value);
  void set_output_sink(std::function<void(MemoryGuestOutput)> sink);  // Called from emit().

  // The value that the journal holds for `counter`, among the last kJournalEntries.
  std::optional<std::uint64_t> journal(std::uint64_t counter) const;
  std::uint64_t counter() const;      // Of the last output.
  std::uint64_t steps_done() const;   // Writes ever done, by this guest and those it continues.
  std::uint64_t memory_hash() const;  // XXH3 of all memory. REQUIRES: it does not run.
  bool running() const;

  void owner_pause();  // As if another client stopped it: an event, and libft's resume() is no use.
  void owner_resume();
  // Reports `kind`; ended, crashed and process_died also end the execution.
  void happen(GuestEvent::Kind kind, std::string detail);

  // --- Guest --------------------------------------------------------------------------------

  const GuestInfo& info() const override { return info_; }
  void set_event_sink(std::function<void(GuestEvent)> sink) override;
  Status start_tracking() override;
  void stop_tracking() override;
  Status pause() override;
  Status resume() override;
  Status take_written(PageSet& written) override;
  Status save_state() override;
  Status fetch_state(std::vector<std::byte>& state) override;
  Status accepts(const GuestInfo& primary) const override;
  Status probe_state(std::span<const std::byte> state) override;
  Status trial_run(StillMoment& moment) override;
  Status load_state(std::span<const std::byte> state) override;
  Status activate() override;
  void destroy() override;
  Nanos clock_lag() const override { return Nanos{0}; }

 private:
  // waiting -> loaded -> alive -> ended. A primary begins alive.
  enum class Life { waiting, loaded, alive, ended };

  struct Registers {
    std::uint64_t seed = 0;     // Of the workload, as it was at the start.
    std::uint64_t random = 0;   // The workload's generator.
    std::uint64_t counter = 0;  // Outputs.
    std::uint64_t steps = 0;    // Page writes.
    auto operator<=>(const Registers&) const = default;
  };
  static std::vector<std::byte> to_bytes(const Registers& registers);
  static Result<Registers> from_bytes(std::span<const std::byte> bytes);

  bool running_locked() const { return life_ == Life::alive && !paused_ && !owner_paused_; }
  std::uint64_t step_some(std::uint64_t writes, std::uint64_t& page, std::uint64_t stride);
  std::uint64_t random();
  void write_page(std::uint64_t index);
  void touch(std::uint64_t index);
  std::span<std::byte> page(std::uint64_t index) const;
  PageNo page_of(std::uint64_t index) const;

  GuestInfo info_;
  std::span<std::byte> memory_;  // All pages, without the hole.
  std::uint64_t pages_ = 0;
  std::uint64_t first_part_ = 0;  // Pages before the hole.
  std::uint64_t hole_ = 0;

  mutable std::mutex mutex_;  // Everything below, and the memory while the workload writes it.
  std::atomic<unsigned> wanted_{0};  // Somebody waits for mutex_: step() lets it in.
  Life life_;
  bool paused_ = false;        // By libft.
  bool owner_paused_ = false;  // By its owner.
  bool tracking_ = false;
  Registers registers_;
  std::vector<std::uint64_t> written_;  // A bit for each page.
  std::vector<std::byte> saved_;
  std::function<void(GuestEvent)> event_sink_;
  std::function<void(MemoryGuestOutput)> output_sink_;
};

// A guest that runs.
std::unique_ptr<MemoryGuest> make_memory_guest(std::uint64_t pages, std::uint64_t seed);

// A guest that waits to continue another of that size.
std::unique_ptr<MemoryGuest> make_memory_standby(std::uint64_t pages);

}  // namespace libft::guest
