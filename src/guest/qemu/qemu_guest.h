// SPDX-License-Identifier: LGPL-2.1-or-later
// QemuGuest is one stock QEMU process as a Guest, whichever accelerator it uses: started from a
// description or a command line, attached to while it runs, or started as a standby that waits for
// a state. The process outlives this object, unless it is a standby that was never activated.
// Session's thread, as Guest says; a watcher thread of its own reports the guest's life.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "guest/qemu/arguments.h"
#include "guest/qemu/launch.h"
#include "libft/guest.h"
#include "qemu/relayed_qmp.h"

namespace libft::qemu {

// What there is to say later than tracker_notes(), a line each, for the log. Called by a thread of
// the guest's, which ends with it; may be empty.
using Say = std::function<void(const std::string&)>;

struct QemuOptions {
  HostPaths paths;       // Where QEMU's monitor is or shall be; the gate's sockets, one pair a NIC.
  LaunchOptions launch;  // The preload object, the log. An empty log: beside the monitor, ".log".
  Say say{};
  std::shared_ptr<QmpRelay> relay{};  // For attach(), in place of paths.qmp: see relayed_qmp.h.
  bool held = false;  // attach(): this process may have started it when it was another program.
};

struct QemuStandbyOptions {
  StandbyArguments arguments;
  LaunchOptions launch;
  Say say{};
  // A standby that executes ahead is another process, with another monitor, from now on. On the
  // thread that reloads it.
  std::function<void(pid_t pid, const std::string& qmp)> moved{};
};

class QemuGuest : public Guest {
 public:
  // Starts the guest; it runs when this returns.
  static Result<std::unique_ptr<QemuGuest>> start(const QemuDescription& description,
                                                  const QemuOptions& options);

  // Starts a command that wrap_arguments() has completed.
  static Result<std::unique_ptr<QemuGuest>> start(const Arguments& arguments,
                                                  const QemuOptions& options);

  // Takes a QEMU that runs already. Fails with everything that is missing.
  static Result<std::unique_ptr<QemuGuest>> attach(pid_t pid, const QemuOptions& options);

  // Takes the warm, stopped QEMU of an earlier program of this process, memory and all.
  static Result<std::unique_ptr<QemuGuest>> attach_standby(pid_t pid, const QemuOptions& options);

  // Starts the warm, stopped QEMU that can continue `primary`.
  static Result<std::unique_ptr<QemuGuest>> start_standby(const GuestInfo& primary,
                                                          const QemuStandbyOptions& options);

  virtual pid_t pid() const = 0;
  // Why better trackers than info().tracker do not work here, and why the guest's clock is not
  // corrected: a line each, for the log.
  virtual const std::vector<std::string>& tracker_notes() const = 0;

  // Neither runs nor has ended, and libft did not pause it. Right after attach(): its owner stopped
  // it, or a libft that died had it stopped for a checkpoint. QEMU cannot tell which, so that only
  // the owner can say that it is to run.
  virtual bool stands_still() const = 0;
  // Sets such a guest running; nothing to do for others.
  virtual Status set_running() = 0;

  // A standby's (speculation.h): loading announces nothing; it runs, and stops, as a standby.
  virtual Status announce_nothing() = 0;
  virtual Status run_as_standby() = 0;
  virtual Status stop_as_standby() = 0;

  // clock_lag() is what is left of it after the guest's agent was told the time; this is the sum of
  // all of libft's stops since it holds the guest. What the guest's monotonic clock lost stays
  // lost.
  virtual Nanos stopped_by_libft() const = 0;
  virtual std::uint64_t clock_corrections() const = 0;
};

}  // namespace libft::qemu
