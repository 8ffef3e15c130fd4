// SPDX-License-Identifier: LGPL-2.1-or-later
// A QemuOpener makes replicas of QEMU guests on this host: the guest, and the gate for its frames
// with a TAP device for each NIC. Who embeds libft and ftctl have one each for a guest. One thread
// at a time; its log, and what it opened, outlive it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "guest/qemu/qemu_guest.h"
#include "libft/log.h"
#include "libft/release_guard.h"
#include "libft/session.h"
#include "output/frames_gate.h"

namespace libft::host {

// Where on this host the things of one guest are.
struct QemuSite {
  std::string state_dir;          // Its sockets and QEMU's log, named after the guest.
  std::vector<std::string> taps;  // One a NIC, in their order.
  std::string preload;            // libft-preload.so; empty: QEMU runs without it.
  std::uint64_t held_bytes_max = 64ull << 20;
  bool set_running = false;                         // attach: a guest that stands still is to run.
  std::string to_run_it = "set the option resume";  // How its owner says so: for the log.
  bool redeliver_input = true;  // Without, a primary forwards no input and a backup delivers none.
};

struct OpenedQemu {
  Replica replica;
  pid_t pid = 0;
  std::string qmp;  // Empty: the toolstack's own connection.
  qemu::Arguments arguments;
  std::vector<output::GateDescriptors> descriptors{};  // Of its gate, a NIC each: see take_up().
};

// What an earlier program of this process left, whose session was held (Session::hold) before the
// process became this one.
struct HeldQemu {
  pid_t pid = 0;
  std::string qmp;
  std::vector<output::GateDescriptors> descriptors;  // Open, and this object's to give away.
  bool standby = false;
  bool set_running = false;                 // The guest stands still because it was held.
  std::shared_ptr<qemu::QmpRelay> relay{};  // As of attach(), in place of `qmp`.
};

// How a QEMU that runs is reached.
struct QemuAttachment {
  pid_t pid = 0;
  std::string qmp;
  std::shared_ptr<qemu::QmpRelay> relay{};  // Instead of `qmp`.
};
// "pid=NUMBER,qmp=PATH"; without qmp when `relay` is given.
Result<QemuAttachment> parse_attachment(const std::string& text,
                                        std::shared_ptr<qemu::QmpRelay> relay = nullptr);

// What the command line of a QEMU lacks that somebody else starts, so that `attach` finds all that
// protection needs. For people: a group of arguments a line.
std::string arguments_to_add(const QemuSite& site, const std::string& guest,
                             std::uint64_t memory_bytes, std::size_t nics);

class QemuOpener {
 public:
  // `guard` goes to the gates.
  QemuOpener(QemuSite site, GuestId guest, std::shared_ptr<ReleaseGuard> guard, Log& log)
      : site_(std::move(site)), guest_(std::move(guest)), guard_(std::move(guard)), log_(log) {}

  // A guest that is described by a JSON file: started.
  Result<OpenedQemu> start(const std::string& description_file);
  // A command line of its owner's: completed and started, with this process's terminal.
  Result<OpenedQemu> wrap(const qemu::Arguments& command);
  Result<OpenedQemu> attach(const QemuAttachment& to);
  // The descriptors are closed when it fails.
  Result<OpenedQemu> take_up(const HeldQemu& held);
  // The warm, stopped replica; `serial` makes its files' names differ from those of earlier ones.
  // `moved`: the process is another one from now on, as of a guest that runs on both hosts; on any
  // thread, as long as the replica lives.
  using Moved = std::function<void(pid_t pid, const std::string& qmp)>;
  Result<OpenedQemu> standby(const GuestInfo& primary, unsigned serial, Moved moved);

 private:
  struct Gate {
    std::unique_ptr<output::FramesGate> gate;
    std::vector<output::GateDescriptors> descriptors;
  };
  using Addresses = std::vector<output::MacAddress>;  // Of a guest that a gate is on standby for.
  Result<Gate> open_gate(const std::vector<qemu::NicSockets>& nics, output::GateStart start,
                         const Addresses& guest = {});
  Result<Gate> take_up_gate(const std::vector<qemu::NicSockets>& nics, const HeldQemu& held,
                            const Addresses& guest);
  Result<Gate> make_gate(std::vector<output::GateNic> ports, output::GateStart start,
                         const Addresses& guest);
  output::GateNicPaths paths_of(const std::vector<qemu::NicSockets>& nics, std::size_t i) const;
  Result<OpenedQemu> opened(Gate gate, Result<std::unique_ptr<qemu::QemuGuest>> guest,
                            const std::string& qmp);
  Status wake(qemu::QemuGuest& guest);
  qemu::Say say() const;
  qemu::HostPaths paths_for(const std::string& life, std::size_t nics) const;
  qemu::LaunchOptions launch_for(const qemu::HostPaths& paths) const;
  qemu::QemuOptions options_for(std::size_t nics) const;

  const QemuSite site_;
  const GuestId guest_;
  const std::shared_ptr<ReleaseGuard> guard_;
  Log& log_;
};

}  // namespace libft::host
