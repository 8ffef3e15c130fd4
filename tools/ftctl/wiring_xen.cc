// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wiring_xen.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

#include "guest/xen/inspect.h"
#include "guest/xen/module.h"
#include "guest/xen/shape.h"
#include "guest/xen/store.h"
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

Status forget_gate(const GuestId& guest) { return output::remove_plug_gate(guest, {}); }
#else
Status forget_gate(const GuestId&) { return {}; }

Result<std::unique_ptr<OutputGate>> open_gate(const Settings&, const GuestId&, const xen::XenGuest&,
                                              std::shared_ptr<ReleaseGuard>, Log&) {
  return failure(with_remedy(Code::unsupported,
                             "this ftctl was built without the plug gate, which holds the output "
                             "of Xen domains",
                             "build it where libnl-route-3-dev is installed"));
}
#endif

std::string name_of(xen::DomId number, const xen::Uuid& uuid) {
  return fmt::format("{}/{}", number, xen::to_string(uuid));
}

Result<OpenedXen> with_gate(const Settings& settings, const GuestId& guest,
                            Result<std::unique_ptr<xen::XenGuest>> domain,
                            std::shared_ptr<ReleaseGuard> guard, Log& log) {
  if (!domain) return failure(std::move(domain.error()));
  log.write(LogLevel::info, "xen",
            fmt::format("domain {}: {}; written pages by {}", (*domain)->domain(),
                        (*domain)->info().description, (*domain)->info().tracker));
  FT_ASSIGN(const xen::Shape shape, xen::shape_from_json((*domain)->info().compatibility));
  FT_ASSIGN(auto gate, open_gate(settings, guest, **domain, std::move(guard), log));
  std::string name = name_of((*domain)->domain(), shape.uuid);
  return OpenedXen{{std::move(gate), std::move(*domain), nullptr}, std::move(name)};
}

Result<xen::XenOptions> xen_options() {
  xen::XenOptions options;
  FT_ASSIGN(options.open, xen::open_module(xen_module()));
  return options;
}

struct Found {
  std::unique_ptr<xen::XenCalls> calls;
  xen::DomId number = 0;
  bool lives = false;  // Another domain may have got its number.
};

Result<Found> find(const std::string& domain) {
  FT_ASSIGN(const xen::XenOptions options, xen_options());
  Found found;
  FT_ASSIGN(found.calls, options.open());
  found.number = static_cast<xen::DomId>(std::strtoul(domain.c_str(), nullptr, 10));
  FT_ASSIGN(const auto info, found.calls->domain(found.number));
  found.lives = info && !info->dying && name_of(found.number, info->handle) == domain;
  return found;
}

}  // namespace

bool is_xen_guest(const std::string& spec) { return spec.starts_with(kPrefix); }

Result<OpenedXen> open_xen(const Settings& settings, const GuestId& guest,
                           const GuestSource& source, std::shared_ptr<ReleaseGuard> guard,
                           Log& log) {
  FT_ASSIGN(xen::XenOptions options, xen_options());
  const std::string earlier = source.earlier ? source.earlier->domain : std::string();
  const std::string name =
      earlier.empty() ? source.spec.substr(kPrefix.size()) : earlier.substr(0, earlier.find('/'));
  return with_gate(settings, guest, xen::XenGuest::attach(name, std::move(options)),
                   std::move(guard), log);
}

Result<OpenedXen> open_xen_standby(const Settings& settings, const GuestId& guest,
                                   const GuestInfo& primary, std::shared_ptr<ReleaseGuard> guard,
                                   Log& log) {
  FT_ASSIGN(xen::XenOptions options, xen_options());
  FT_ASSIGN(OpenedXen opened,
            with_gate(settings, guest, xen::XenGuest::build_standby(primary, std::move(options)),
                      std::move(guard), log));
  // What an earlier life of the guest on this host left in the queues must not leave with this one.
  opened.replica.gate->discard();
  return opened;
}

Result<bool> xen_domain_lives(const std::string& domain) {
  FT_ASSIGN(const Found found, find(domain));
  return found.lives;
}

Status stop_xen_domain(const std::string& domain, const GuestId& guest) {
  FT_ASSIGN(const Found found, find(domain));
  if (!found.lives) return {};
  const auto known = xen::inspect(*found.calls, found.number);  // Before it is gone.
  FT_TRY(found.calls->destroy(found.number).within("destroy domain " + domain));
  if (known) xen::forget_domain(*found.calls, found.number, known->shape);
  return forget_gate(guest);
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
