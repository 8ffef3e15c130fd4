// SPDX-License-Identifier: LGPL-2.1-or-later
// The one place of ftctl that knows concrete adapters: it turns Settings into the guest, the gate,
// the arbiter, the connections and the heartbeats of a session. Everything else in ftctl sees the
// public headers only. One thread, except where a comment says otherwise.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "libft/session.h"
#include "settings.h"
#include "state_file.h"

namespace libft::ftctl {

// Which process a guest is, for the state file. pid 0: it is a domain of Xen's, or lives inside
// this process.
struct GuestProcess {
  ProcessId process;
  std::string qmp;
  std::vector<std::string> argv;
  std::string domain{};  // As GuestState's.
  // Open in this process and kept for a program that takes its place: see Host::take_up.
  std::vector<int> descriptors{};
};

// How the guest of a primary comes about.
struct GuestSource {
  std::string spec;                       // "qemu:FILE.json", ... ; empty with a command line.
  std::vector<std::string> command_line;  // `ftctl run -- ...`
  std::optional<GuestState> earlier;      // Attach to the guest that this one left behind.
};

// What the guests of one ftctl process share: clock, log, workers, memory, listeners.
class Host {
 public:
  static Result<std::unique_ptr<Host>> make(Log& log);
  virtual ~Host() = default;  // After the sessions.

  // Checks what can be checked of the settings without touching the world.
  virtual Status check(const Settings& settings) const = 0;
  virtual ReadAnswer read_record(const Settings& settings, const GuestId& guest) = 0;

  virtual Result<Replica> open_guest(const Settings& settings, const GuestId& guest,
                                     const GuestSource& source) = 0;
  // The QEMU of the program that this process was before, whose session was held; `standby`: it
  // waits. Of a failure nothing is left but that QEMU.
  virtual Result<Replica> take_up(const Settings& settings, const GuestId& guest,
                                  const GuestProcess& left, bool standby, bool set_running) = 0;
  virtual Result<SessionParts> parts(const Settings& settings, const GuestId& guest,
                                     bool standby) = 0;
  // One a listening address; lives as long as the host.
  virtual Result<Switchboard*> switchboard(const Settings& settings) = 0;

  // Of the guest that open_guest() or a session's make_standby opened last. Any thread.
  virtual GuestProcess process(const GuestId& guest) const = 0;
  // What an earlier ftctl left behind: whether its guest lives, and its end for good.
  virtual Result<bool> lives(const GuestState& earlier) const = 0;
  virtual Status stop(const GuestState& earlier, const GuestId& guest) = 0;
  // This process lets go of a guest that it owned: what its hypervisor's toolstack does when a
  // guest ends is the toolstack's again. Empty when nothing is to be said of it.
  virtual std::string hand_back(const GuestId& guest) = 0;
  // A person decided: what a manual arbiter waits for, given the status of the replica that is to
  // own the guest. Nothing to do for other arbiters. Any thread.
  virtual Status permit(const Settings& settings, const GuestId& guest,
                        const SessionStatus& status) = 0;

  // Of a replica that owns nothing: without an arbiter, heartbeats or a listener.
  virtual Result<SessionParts> witness_parts(const Settings& settings, const GuestId& guest) = 0;
};

SessionOptions session_options(const Settings& settings);
std::string host_name(
    const Settings& settings);  // What this host's replicas are called in records.

// --- for doctor, keygen and qemu-args ---------------------------------------------------------

struct TrackerReport {
  std::string name, reason, advice;
  bool works = false;
  double scan_ms_per_gib = 0;
};
std::vector<TrackerReport> trackers();

struct AcceleratorReport {
  std::string name, reason;
};
AcceleratorReport accelerator();

Result<std::string> generate_key();  // The text of a key file.
Result<std::string> qemu_arguments(const std::string& name, const Settings& settings,
                                   std::uint64_t memory_mib, unsigned nics);
// Asks the arbiter for a record that need not exist. ok when it answers.
Status probe_arbiter(const std::string& spec);
std::string preload_object();  // Where the tracker's preload object is; empty: nowhere.

}  // namespace libft::ftctl
