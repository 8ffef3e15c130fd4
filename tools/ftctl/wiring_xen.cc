// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_xen.h"

#include <fmt/format.h>

#include <filesystem>

#include "guest/xen/module.h"
#include "guest/xen/xen_guest.h"
#include "report.h"
#ifdef FTCTL_PLUG_GATE
#include "output/plug_gate.h"
#endif

namespace libft::ftctl {

namespace {

constexpr std::string_view kPrefix = "xen:";

#ifdef FTCTL_PLUG_GATE
Result<std::unique_ptr<OutputGate>> open_gate(const Settings& settings, const GuestId& guest,
                                              const xen::XenGuest& domain,
                                              std::shared_ptr<ReleaseGuard> guard, Log& log) {
  output::PlugGateOptions options;
  options.guest = guest;
  options.devices = domain.interfaces();
  options.bytes_held_max = static_cast<std::uint64_t>(settings.held_mib) << 20;
  options.leftovers = output::PlugLeftovers::adopt;
  options.may_release = [guard = std::move(guard)] { return guard->may_release(); };
  return output::open_plug_gate(std::move(options), log);
}
#else
Result<std::unique_ptr<OutputGate>> open_gate(const Settings&, const GuestId&, const xen::XenGuest&,
                                              std::shared_ptr<ReleaseGuard>, Log&) {
  return failure(with_remedy(Code::unsupported,
                             "this ftctl was built without the plug gate, which holds the output "
                             "of Xen domains",
                             "build it where libnl-route-3-dev is installed"));
}
#endif

Result<Replica> with_gate(const Settings& settings, const GuestId& guest,
                          Result<std::unique_ptr<xen::XenGuest>> domain,
                          std::shared_ptr<ReleaseGuard> guard, Log& log) {
  if (!domain) return failure(std::move(domain.error()));
  log.write(LogLevel::info, "xen",
            fmt::format("domain {}: {}; written pages by {}", (*domain)->domain(),
                        (*domain)->info().description, (*domain)->info().tracker));
  FT_ASSIGN(auto gate, open_gate(settings, guest, **domain, std::move(guard), log));
  return Replica{std::move(gate), std::move(*domain), nullptr};
}

Result<xen::XenOptions> xen_options() {
  xen::XenOptions options;
  FT_ASSIGN(options.open, xen::open_module(xen_module()));
  return options;
}

}  // namespace

bool is_xen_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<Replica> open_xen(const Settings& settings, const GuestId& guest, const std::string& spec,
                         std::shared_ptr<ReleaseGuard> guard, Log& log) {
  FT_ASSIGN(xen::XenOptions options, xen_options());
  return with_gate(settings, guest,
                   xen::XenGuest::attach(spec.substr(kPrefix.size()), std::move(options)),
                   std::move(guard), log);
}

Result<Replica> open_xen_standby(const Settings& settings, const GuestId& guest,
                                 const GuestInfo& primary, std::shared_ptr<ReleaseGuard> guard,
                                 Log& log) {
  FT_ASSIGN(xen::XenOptions options, xen_options());
  return with_gate(settings, guest, xen::XenGuest::build_standby(primary, std::move(options)),
                   std::move(guard), log);
}

std::string xen_module() {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  // Installed, beside ftctl, or in a build folder.
  for (const char* place :
       {"../lib/libft", "../lib/x86_64-linux-gnu/libft", ".", "../../src/guest/xen"}) {
    const auto file = (here / place / "libft-xen.so").lexically_normal();
    if (std::filesystem::exists(file, error)) return file.string();
  }
  return {};
}

}  // namespace libft::ftctl
