// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_machine.h"

#include "host/machine_opener.h"

namespace libft::ftctl {
namespace {

constexpr std::string_view kPrefix = "machine:";

host::MachineOpener opener(const Settings& settings, std::shared_ptr<ReleaseGuard> guard,
                           Log& log) {
  host::MachineSite site;
  site.taps = settings.tap;
  site.held_bytes_max = static_cast<std::uint64_t>(settings.held_mib) << 20;
  site.redeliver_input = !settings.no_redeliver_input;
  site.disk_file = settings.disk;
  return {std::move(site), std::move(guard), log};
}

}  // namespace

bool is_machine_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<Replica> open_machine(const Settings& settings, const std::string& spec,
                             std::shared_ptr<ReleaseGuard> guard, Log& log) {
  return opener(settings, std::move(guard), log).start(spec.substr(kPrefix.size()));
}

Result<Replica> open_machine_standby(const Settings& settings, const GuestInfo& primary,
                                     std::shared_ptr<ReleaseGuard> guard, Log& log) {
  return opener(settings, std::move(guard), log).standby(primary);
}

}  // namespace libft::ftctl
