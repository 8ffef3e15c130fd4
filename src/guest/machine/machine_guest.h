// SPDX-License-Identifier: LGPL-2.1-or-later
// MachineGuest is a Machine as a Guest: it runs on a thread of its own, in time with the host's
// clock as far as it can, takes frames from a datagram socket and sends its own there. And it is a
// DeterministicGuest: what it took, and where, can be logged, and done again.
// Functions may be called from any one thread at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "libft/deterministic_guest.h"
#include "libft/guest.h"
#include "machine.h"
#include "os/event_fd.h"
#include "os/fd.h"

namespace libft::machine {

struct MachineGuestOptions {
  MachineOptions machine;
  std::string disk_file;  // Where options.machine.disk came from; for the backup.
  bool standby = false;   // Waits for load_state() and activate() instead of running.
  os::ScopedFd nic;       // A connected datagram socket, one frame a datagram; none: no cable.
  std::function<void(std::span<const std::byte>)> console;  // On the guest's thread.
};

class MachineGuest final : public Guest, public DeterministicGuest {
 public:
  static Result<std::unique_ptr<MachineGuest>> create(MachineGuestOptions options);
  ~MachineGuest() override;
  MachineGuest(const MachineGuest&) = delete;
  MachineGuest& operator=(const MachineGuest&) = delete;

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
  Nanos clock_lag() const override;

  // --- DeterministicGuest -------------------------------------------------------------------

  Result<Position> position() override;
  Status run_until(Position until) override;
  Status deliver(const GuestInput& input) override;
  Result<std::uint64_t> state_hash() override;
  void set_input_sink(InputSink sink) override;
  void set_input_at(InputAt where) override;
  Status mark(WithHash hash, const std::function<void(const Mark&)>& there) override;
  void set_pace(unsigned percent) override;
  void send_again(const GuestOutput& output) override;
  void set_output_sink(OutputSink sink) override;
  Result<GuestCopy> make_copy() const override;

 private:
  // waiting -> loaded -> alive -> ended. A primary begins alive.
  enum class Life { waiting, loaded, alive, ended };
  using HostClock = std::chrono::steady_clock;

  // Takes the lock from a thread that would otherwise take it again at once.
  class Entry;

  MachineGuest(MachineGuestOptions options, os::EventFd wake);
  MachineSinks sinks();
  void describe();

  void live();
  void live_a_moment(std::unique_lock<std::mutex>& lock);
  void sleep_a_while(std::unique_lock<std::mutex>& lock);
  void keep_pace(std::unique_lock<std::mutex>& lock, HostClock::time_point begun);
  bool send_what_is_left();
  void take_frames(unsigned frames_max);
  void take(GuestInput input);
  void send(std::span<const std::byte> frame);
  void notice_end();
  void announce();
  bool runs() const { return life_ == Life::alive && !paused_; }
  bool stands_still() const { return life_ == Life::loaded || (life_ == Life::alive && paused_); }
  void begin_to_run();
  Position due() const;  // How far it would be if it had kept up with the host's clock.

  GuestInfo info_;
  MachineGuestOptions options_;
  os::EventFd wake_;

  mutable std::mutex mutex_;                 // All that follows, and memory while the guest runs.
  mutable std::atomic<unsigned> wanted_{0};  // Somebody waits for mutex_.
  mutable std::condition_variable changed_;
  bool stopping_ = false;
  std::unique_ptr<Machine> machine_;
  Life life_;
  bool ran_out_ = false;  // It ended while it was executed as a standby: it can be loaded again.
  bool paused_ = false;
  bool tracking_ = false;
  HostClock::time_point since_;  // When it began to run,
  Position from_;                // and where it was then.
  HostClock::time_point paused_at_;
  std::atomic<Nanos> lag_{
      Nanos{0}};  // Read without the lock, which the guest may hold for a slice.
  InputAt input_at_ = InputAt::any_position;
  std::uint32_t entropy_wanted_ = 0;
  unsigned pace_ = 100;     // Percent.
  std::uint64_t said_ = 0;  // Digest of the frames since the last mark.
  std::deque<std::vector<std::byte>>
      outbox_;  // What the socket had no room for: it stands meanwhile.
  std::vector<std::byte> saved_;
  std::function<void(GuestEvent)> event_sink_;
  InputSink input_sink_;
  OutputSink output_sink_;
  std::jthread thread_;  // Last: joined first.
};

}  // namespace libft::machine
