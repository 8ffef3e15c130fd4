// SPDX-License-Identifier: LGPL-2.1-or-later
// A GuestClock keeps a guest's time of day near the host's although checkpoints stop the guest's
// clock: it asks QEMU's guest agent, which runs in the guest, what the time is there, and tells it
// the host's. QemuGuest owns one for each guest that has an agent's port.
// It owns one thread, the only one that waits for the agent; any thread may call it.
//
// The agent's socket is libft's own channel into the guest. What comes out of it passes no gate: it
// is never seen outside, and all it decides is whether the guest is told the time once more. A
// request that is under way when the guest fails over does no harm either, since the guest that
// goes on was saved after it was sent, or never gets it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "libft/status.h"
#include "libft/types.h"
#include "os/event_fd.h"
#include "os/fd.h"

namespace libft::qemu {

struct GuestClockOptions {
  // A new connection to the agent's socket, non-blocking. Called by the thread, and again after the
  // connection was lost.
  std::function<Result<os::ScopedFd>()> connect;
  std::function<Nanos()> stopped;    // Sum of all stops so far. Locks briefly, never waits.
  std::function<Nanos()> host_time;  // CLOCK_REALTIME: since 1970.
  // Told once, by the thread, when the agent does not answer; may be empty.
  std::function<void(const std::string&)> say;

  Nanos threshold = Millis{20};  // Less is left alone: each correction costs the guest a process.
  Nanos interval = Millis{250};  // The shortest time between two looks.
  Nanos answer_timeout = Millis{2000};  // For a question: a guest may be stopped for a while.
  // For setting: the agent sets the hardware clock as well, which takes util-linux's hwclock up to
  // a second.
  Nanos set_timeout = Millis{8000};
  Nanos retry_max = Millis{8000};  // An agent that is silent is asked more and more seldom.
};

class GuestClock {
 public:
  explicit GuestClock(GuestClockOptions options) : options_(std::move(options)) {}
  ~GuestClock() { stop(); }
  GuestClock(const GuestClock&) = delete;
  GuestClock& operator=(const GuestClock&) = delete;

  Status start();
  void stop();  // Idempotent; returns soon, whatever the agent does.

  // Looks at once, whatever the stops add up to: after a promotion nobody knows how long the guest
  // did not run.
  void look_now();

  // How far the guest's clock is behind, as far as known: the lag that was left after the last
  // look, and all stops since.
  Nanos left() const;
  std::uint64_t corrections() const;
  bool answered() const;  // The agent has answered at least once.

  // A guest that is further behind than this was set so by its owner, or stood still by his will;
  // its clock is left alone.
  static constexpr Nanos kLagMax = std::chrono::minutes{10};

 private:
  struct Reading {
    Nanos lag_min{};  // Between what it was when asked and what it was when answered.
    Nanos round_trip{};
    Nanos stopped{};  // The sum of stops that belongs to it.
  };
  static constexpr std::size_t kLineBytesMax = 64u << 10;

  void run();
  Nanos look();
  Status look_and_correct();
  Result<Reading> read_clock();
  Status set_clock();
  Status synchronise();
  Result<std::string> next_line(Nanos until);
  Status send(const std::string& text);
  Nanos steady_now() const;
  void note(const Reading& reading);
  void complain(const Status& status);

  const GuestClockOptions options_;
  std::optional<os::EventFd> wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> look_now_{false};

  // The thread's own.
  os::ScopedFd socket_;
  std::string input_;
  std::uint64_t syncs_ = 0;
  unsigned failures_ = 0;  // In a row.
  bool forced_ = false;    // look_now(), until a look succeeds.
  bool complained_ = false;

  mutable std::mutex mutex_;
  Nanos lag_at_look_{};
  Nanos stopped_at_look_{};
  std::uint64_t corrections_ = 0;
  bool answered_ = false;
  std::jthread thread_;  // Last: it uses all of the above.
};

// The connection of QemuGuest's: to the socket that QEMU listens on for the agent's port.
Result<os::ScopedFd> connect_agent(const std::string& path);

}  // namespace libft::qemu
