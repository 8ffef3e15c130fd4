// SPDX-License-Identifier: LGPL-2.1-or-later
#include "host/xen_opener.h"

#include <fmt/format.h>

#include <algorithm>

#include "guest/xen/module.h"
#include "guest/xen/needs.h"
#include "guest/xen/shape.h"
#include "guest/xen/store.h"
#include "os/memory_free.h"

namespace libft::host {

Result<xen::XenOptions> xen_options(const std::string& module, const std::string& adopt) {
  xen::XenOptions options;
  options.toolstack = std::make_shared<xen::XlHelper>(adopt);
  FT_ASSIGN(options.open, xen::open_module(module));
  return options;
}

std::string domain_name(xen::DomId number, const xen::Uuid& uuid) {
  return fmt::format("{}/{}", number, xen::to_string(uuid));
}

Result<xen::XenOptions> XenOpener::options() const {
  if (site_.adopt.empty())
    log_.write(LogLevel::warning, "xen",
               "xen-adopt is not installed (libft-xen): after a failover `xl list -l`, `xl save` "
               "and a reboot will not find the guest's configuration");
  return xen_options(site_.module, site_.adopt);
}

Result<OpenedXen> XenOpener::attach(const std::string& name) {
  FT_ASSIGN(xen::XenOptions opened, options());
  FT_ASSIGN(auto domain, xen::XenGuest::attach(name, std::move(opened)));
  FT_TRY(check_dom0("memory for epochs in flight (--staging-mib, --inflight)", domain->info(),
                    site_.inflight_max + 1));
  return with_gate(std::move(domain));
}

Result<OpenedXen> XenOpener::standby(const GuestInfo& primary) {
  FT_TRY(check_dom0("memory to decode epochs in", primary, 1));
  FT_ASSIGN(xen::XenOptions with, options());
  FT_ASSIGN(OpenedXen opened, with_gate(xen::XenGuest::build_standby(primary, std::move(with))));
  // What an earlier life of the guest on this host left in the queues must not leave with this one.
  opened.replica.gate->discard();
  return opened;
}

Status XenOpener::check_dom0(std::string_view what, const GuestInfo& guest,
                             std::uint32_t epochs) const {
  const std::uint64_t each = std::min(site_.staging_bytes, guest.pages() * guest.page_bytes);
  return xen::check_dom0_memory(what, each * epochs, os::memory_bytes_free());
}

Result<OpenedXen> XenOpener::with_gate(Result<std::unique_ptr<xen::XenGuest>> domain) {
  if (!domain) return failure(std::move(domain.error()));
  log_.write(LogLevel::info, "xen",
             fmt::format("domain {}: {}; written pages by {}", (*domain)->domain(),
                         (*domain)->info().description, (*domain)->info().tracker));
  FT_ASSIGN(const xen::Shape shape, xen::shape_from_json((*domain)->info().compatibility));
  output::PlugGateOptions options;
  options.guest = guest_;
  options.devices = (*domain)->interfaces();
  options.bytes_held_max = site_.held_bytes_max;
  options.leftovers = output::PlugLeftovers::adopt;
  options.may_release = [guard = guard_] { return guard->may_release(); };
  FT_ASSIGN(auto gate, site_.open_gate(std::move(options), log_));
  std::string name = domain_name((*domain)->domain(), shape.uuid);
  return OpenedXen{{std::move(gate), std::move(*domain), nullptr}, std::move(name)};
}

}  // namespace libft::host
