// SPDX-License-Identifier: LGPL-2.1-or-later
// A Guest is one virtual machine as libft sees it: something that can be stopped, whose changed
// pages can be read, and that can run again. Implement it to support another hypervisor.
// A session calls its guest from the session's thread only (except where a comment says otherwise);
// implementations need no locks.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "libft/page_set.h"
#include "libft/status.h"
#include "libft/types.h"

namespace libft {

// A piece of guest memory, mapped into this process for as long as the Guest lives.
struct MemoryRegion {
  std::string name;            // As the hypervisor calls it: "ram".
  PageNo first;                // Page number of its first byte; regions do not overlap, sorted.
  std::span<std::byte> bytes;  // A whole number of pages.
};

struct GuestInfo {
  std::string driver;        // "qemu", "xen", "memory"
  std::string description;   // One line for people: "QEMU 7.2.22, pc-i440fx-7.2, tcg, 128 MiB".
  std::uint32_t page_bytes = 4096;
  std::uint32_t vcpus = 1;
  std::vector<MemoryRegion> memory;
  std::string tracker;       // How written pages are found: "userfaultfd", "soft-dirty", "compare", ...
  std::string accelerator;   // "kvm", "tcg", "none"
  // What is written is marked outside of this process: another one that attaches to the guest finds
  // it without start_tracking(). See Session::hold.
  bool tracking_stays = false;
  bool cooperative = false;  // Stands still only with its own help: see prepare_pause().
  // What a backup must have in common with the primary: versioned machine type, device list, ROM
  // blocks, hypervisor version. JSON; opaque to everybody but the driver.
  std::string compatibility;

  std::uint64_t pages() const;  // Sum over all regions.
};

// What happens to the guest through others: its own software, its owner, its host.
struct GuestEvent {
  enum class Kind {
    ended,           // Shut down or destroyed on purpose, by its software or its owner.
    crashed,         // Guest panic: the hypervisor reports it; treated as its owner configured.
    rebooted,        // Reset by its software or owner; execution goes on, still protected.
    paused,          // Stopped by somebody else (another QMP client): stays paused.
    resumed,         // Set running again by somebody else.
    process_died,    // The hypervisor process is gone without an orderly end.
    reconfigured,    // Hot-plug or a memory change: what is protected no longer matches.
    migrating,       // Somebody else started a migration.
  };
  Kind kind;
  std::string detail;  // For the log: who, what.
};
std::string_view to_string(GuestEvent::Kind kind);

// A moment at which a standby's memory and a device state belong together: while it is held,
// neither changes. Epochs wait for its end, and with them the primary's output.
class StillMoment {
 public:
  virtual ~StillMoment() = default;

  // Waits for it. The state stays until let_go().
  virtual Result<std::span<const std::byte>> hold() = 0;
  // To be called as soon as memory and state are copied. A failure says that the moment was spoilt:
  // what was copied is of no moment at all.
  virtual Status let_go() = 0;
};

class Guest {
 public:
  virtual ~Guest() = default;

  virtual const GuestInfo& info() const = 0;

  // Where life events go. The sink may be called from any thread of the driver's until the guest is
  // destroyed or another sink is set; it returns quickly.
  virtual void set_event_sink(std::function<void(GuestEvent)> sink) = 0;

  // --- on the primary -----------------------------------------------------------------------

  // Begins to record which pages are written. Everything written after the return is reported.
  virtual Status start_tracking() = 0;
  virtual void stop_tracking() = 0;

  // Asks a cooperative guest to stand still, which takes it from milliseconds to a minute; meanwhile
  // it runs. `ready` is called once, from any thread: ok when pause() now returns at once, else why
  // the guest does not; then it runs as before. A guest that was asked and is not paused when its
  // driver is destroyed is left running.
  virtual void prepare_pause(std::function<void(Status)> ready) { ready({}); }

  // Stops all virtual CPUs and waits until devices are quiet. Without prepare_pause(), a cooperative
  // guest is asked here, and waited for.
  // On failure the guest is running, as before the call. REQUIRES: libft did not pause it already.
  // A guest that its owner paused stays as it is: pause() succeeds, and resume() leaves it paused.
  virtual Status pause() = 0;
  virtual Status resume() = 0;

  // Replaces `written` by the pages written since tracking began or since the last call, and begins
  // anew. Callable while the guest runs (pages written meanwhile are in this answer or the next).
  // On failure nothing is lost: the next call reports at least as much.
  virtual Status take_written(PageSet& written) = 0;

  // Replaces `state` by the CPUs' and devices' state, without memory. REQUIRES: paused by pause(), or
  // a standby that is executed (DeterministicGuest) and stands still.
  // The bytes may still be owned by the driver when this returns: fetch_state() copies them out,
  // and may be called after resume(), before the next pause().
  virtual Status save_state() = 0;
  virtual Status fetch_state(std::vector<std::byte>& state) = 0;

  // --- on the backup ------------------------------------------------------------------------

  // Whether a guest of that description can be continued here; says everything that differs.
  virtual Status accepts(const GuestInfo& primary) const = 0;

  // Loads `state` into a throw-away instance and discards it. The guest itself is untouched.
  virtual Status probe_state(std::span<const std::byte> state) = 0;

  // Runs a copy of the guest (its memory and state at `moment`) in a throw-away instance that is
  // connected to nothing, until its CPUs have run for a moment, and discards it: proof that a
  // failover would succeed. The guest itself is untouched. Called on a thread of its own, while the
  // session's thread uses the guest.
  virtual Status trial_run(StillMoment& moment) = 0;

  // Loads `state` over the memory as it is now. The guest is then paused, ready to run.
  virtual Status load_state(std::span<const std::byte> state) = 0;

  // Runs a guest after load_state(). From here on it is a guest like any other, and can be tracked.
  virtual Status activate() = 0;

  // --- on both ------------------------------------------------------------------------------

  // Ends the guest's execution for good, without asking its software. Used on a fenced primary and
  // to give up a backup. Idempotent.
  virtual void destroy() = 0;

  // What a page is, as far as it is known, for people: its region, and whom it serves.
  virtual std::string about(PageNo page) const;

  // How far the guest's clock is behind real time, as far as libft caused it.
  virtual Nanos clock_lag() const = 0;
};

}  // namespace libft
