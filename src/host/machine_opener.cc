// SPDX-License-Identifier: LGPL-2.1-or-later
#include "machine_opener.h"

#include <sys/socket.h>

#include <array>

#include "guest/machine/spec.h"
#include "os/fd.h"
#include "output/frames_gate.h"
#include "output/memory_gate.h"
#include "output/tap.h"

namespace libft::host {
namespace {

constexpr int kSocketBytes = 4 << 20;

struct Cable {
  os::ScopedFd guest, gate;
};

Result<Cable> make_cable() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
    return failure(os::errno_status("make the guest's cable"));
  // Refused, it holds fewer frames on their way, and the guest waits earlier.
  for (const int end : ends)
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof kSocketBytes);
  return Cable{os::ScopedFd(ends[0]), os::ScopedFd(ends[1])};
}

Result<std::unique_ptr<output::FramesGate>> open_gate(const MachineSite& site, os::ScopedFd cable,
                                                      output::GateStart start,
                                                      const output::MacAddress& guest,
                                                      std::shared_ptr<ReleaseGuard> guard,
                                                      Log& log) {
  FT_ASSIGN(auto port, output::GuestPort::from_pair(std::move(cable)));
  FT_ASSIGN(auto link, output::open_tap(site.taps.front()));
  std::vector<output::GateNic> nics;
  nics.push_back(output::GateNic{"net0", std::move(port), std::move(link)});
  if (start == output::GateStart::standby && site.redeliver_input)
    output::listen_beside_taps(nics, site.taps, {&guest, 1}, log);
  output::FramesGateOptions options;
  options.start = start;
  options.bytes_held_max = site.held_bytes_max;
  options.may_release = [guard = std::move(guard)] { return guard->may_release(); };
  return output::FramesGate::create(std::move(nics), std::move(options), log);
}

// The console goes to the log, line by line.
std::function<void(std::span<const std::byte>)> console_to(Log& log) {
  return [&log, line = std::string()](std::span<const std::byte> bytes) mutable {
    for (const std::byte byte : bytes) {
      const char character = static_cast<char>(byte);
      if (character != '\n' && line.size() < 1000) {
        if (character != '\r') line += character;
        continue;
      }
      log.write(LogLevel::info, "console", line);
      line.clear();
    }
  };
}

}  // namespace

Result<Replica> MachineOpener::start(const std::string& spec) {
  machine::MachineGuestOptions options;
  FT_TRY(
      machine::read_spec(spec, options.machine, options.disk_file).within("guest machine:" + spec));
  return open(std::move(options));
}

Result<Replica> MachineOpener::standby(const GuestInfo& primary) {
  machine::MachineGuestOptions options;
  options.standby = true;
  FT_TRY(machine::read_compatibility(primary.compatibility, options.machine, options.disk_file,
                                     site_.disk_file));
  return open(std::move(options));
}

Result<Replica> MachineOpener::open(machine::MachineGuestOptions options) {
  options.console = console_to(log_);
  if (site_.taps.empty()) return without_output(std::move(options));
  const output::GateStart start =
      options.standby ? output::GateStart::standby : output::GateStart::held;
  FT_ASSIGN(Cable cable, make_cable());
  FT_ASSIGN(auto gate,
            open_gate(site_, std::move(cable.gate), start, options.machine.mac, guard_, log_));
  options.nic = std::move(cable.guest);
  FT_ASSIGN(auto guest, machine::MachineGuest::create(std::move(options)));
  log_.write(LogLevel::info, "machine", guest->info().description);
  InputTap* const input = site_.redeliver_input ? gate.get() : nullptr;
  DeterministicGuest* const exact = guest.get();
  return Replica{std::move(gate), std::move(guest), input, exact};
}

// Without a TAP device its cable leads nowhere, and there is no output that could be held.
Result<Replica> MachineOpener::without_output(machine::MachineGuestOptions options) {
  FT_ASSIGN(auto gate, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
  FT_ASSIGN(auto guest, machine::MachineGuest::create(std::move(options)));
  DeterministicGuest* const exact = guest.get();
  return Replica{std::move(gate), std::move(guest), nullptr, exact};
}

}  // namespace libft::host
