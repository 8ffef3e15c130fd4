// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_machine.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <fstream>
#include <iterator>

#include "guest/machine/machine_guest.h"
#include "guest/machine/spec.h"
#include "os/fd.h"
#include "output/frames_gate.h"
#include "output/memory_gate.h"
#include "output/tap.h"

namespace libft::ftctl {

namespace {

constexpr std::string_view kPrefix = "machine:";
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

Result<std::unique_ptr<output::FramesGate>> open_gate(const Settings& settings, os::ScopedFd cable,
                                                      output::GateStart start,
                                                      std::shared_ptr<ReleaseGuard> guard,
                                                      Log& log) {
  FT_ASSIGN(auto port, output::GuestPort::from_pair(std::move(cable)));
  FT_ASSIGN(auto link, output::open_tap(settings.tap.front()));
  std::vector<output::GateNic> nics;
  nics.push_back(output::GateNic{"net0", std::move(port), std::move(link)});
  output::FramesGateOptions options;
  options.start = start;
  options.bytes_held_max = static_cast<std::uint64_t>(settings.held_mib) << 20;
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

// Without a TAP device its cable leads nowhere, and there is no output that could be held.
Result<Replica> open(const Settings& settings, machine::MachineGuestOptions options,
                     std::shared_ptr<ReleaseGuard> guard, Log& log) {
  options.console = console_to(log);
  const output::GateStart start =
      options.standby ? output::GateStart::standby : output::GateStart::held;
  if (settings.tap.empty()) {
    FT_ASSIGN(auto gate, output::MemoryGate::create({}, [](std::span<const std::byte>) {}));
    FT_ASSIGN(auto guest, machine::MachineGuest::create(std::move(options)));
    DeterministicGuest* const exact = guest.get();
    return Replica{std::move(gate), std::move(guest), nullptr, exact};
  }
  FT_ASSIGN(Cable cable, make_cable());
  FT_ASSIGN(auto gate, open_gate(settings, std::move(cable.gate), start, std::move(guard), log));
  options.nic = std::move(cable.guest);
  FT_ASSIGN(auto guest, machine::MachineGuest::create(std::move(options)));
  log.write(LogLevel::info, "machine", guest->info().description);
  InputTap* const input = settings.no_redeliver_input ? nullptr : gate.get();
  DeterministicGuest* const exact = guest.get();
  return Replica{std::move(gate), std::move(guest), input, exact};
}

}  // namespace

bool is_machine_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<Replica> open_machine(const Settings& settings, const std::string& spec,
                             std::shared_ptr<ReleaseGuard> guard, Log& log) {
  machine::MachineGuestOptions options;
  FT_TRY(machine::read_spec(spec.substr(kPrefix.size()), options.machine, options.disk_file)
             .within("guest " + spec));
  return open(settings, std::move(options), std::move(guard), log);
}

Result<Replica> open_machine_standby(const Settings& settings, const GuestInfo& primary,
                                     std::shared_ptr<ReleaseGuard> guard, Log& log) {
  machine::MachineGuestOptions options;
  options.standby = true;
  FT_TRY(machine::read_compatibility(primary.compatibility, options.machine, options.disk_file));
  return open(settings, std::move(options), std::move(guard), log);
}

}  // namespace libft::ftctl
