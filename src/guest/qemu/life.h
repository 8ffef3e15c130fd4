// SPDX-License-Identifier: LGPL-2.1-or-later
// Life turns QMP events into GuestEvents and knows whether the guest runs, and who stopped it. The
// table is docs/guest-life.md. No I/O: events in, conclusions out.
// Any thread; it locks.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "qemu/qmp.h"
#include "libft/guest.h"

namespace libft::qemu {

class Life {
 public:
  // What query-status said when libft came: "running", "paused", "inmigrate", "shutdown", ...
  void begin(const std::string& status);

  // An event of the stream.
  void on_event(const Json& event);
  // The process has ended.
  void on_process_end();

  // libft is about to send `stop` (at `now_us`, CLOCK_REALTIME as QEMU stamps its events), or
  // `cont`.
  void expect_stop(std::uint64_t now_us);
  void expect_resume();
  // The answer has come. Whether the STOP was ours: false when somebody else had stopped the guest
  // before, or it had ended.
  bool stopped_by_us();
  void cancel_expectations();

  // libft ends the process: no event is to be made of it.
  void expect_end();
  // A migration into this QEMU (a promotion), or out of it by libft, is not somebody else's.
  void expect_migration(bool expected);

  bool runs() const;   // As far as events told; libft's own pauses count as not running.
  bool ended() const;  // Shut down, panicked for good, or its process is gone.
  Nanos stopped_by_libft() const;  // Sum of all stops of libft's, on QEMU's own stamps.

  std::vector<GuestEvent> take_events();  // Oldest first.

 private:
  void on_stop(std::uint64_t at_us);
  void on_resume(std::uint64_t at_us);
  void on_shutdown(const Json& data);
  void on_migration(const Json& data);
  void tell(GuestEvent::Kind kind, std::string detail);

  mutable std::mutex mutex_;
  std::vector<GuestEvent> events_;
  bool runs_ = false;
  bool ended_ = false;
  bool end_expected_ = false;
  bool migration_expected_ = false;
  bool stop_expected_ = false;
  bool resume_expected_ = false;
  bool stopped_by_us_ = false;
  std::uint64_t stop_posted_us_ = 0;
  std::uint64_t stopped_at_us_ = 0;
  std::uint64_t lag_us_ = 0;
};

}  // namespace libft::qemu
