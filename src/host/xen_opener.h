// SPDX-License-Identifier: LGPL-2.1-or-later
// A XenOpener makes replicas of Xen domains on this host: the domain, and the plug gate for its
// interfaces. What needs libraries of others, Xen's and libnl, comes from outside: the module, and
// the function that opens the gate. One thread at a time; its log, and what it opened, outlive it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "guest/xen/xen_guest.h"
#include "libft/log.h"
#include "libft/release_guard.h"
#include "libft/session.h"
#include "output/plug_gate.h"

namespace libft::host {

struct XenSite {
  std::string module;  // libft-xen.so; empty: it is nowhere.
  std::string adopt;   // xen-adopt; empty: it is nowhere, and xl will not know a promoted domain.
  std::function<Result<std::unique_ptr<OutputGate>>(output::PlugGateOptions, Log&)> open_gate;
  std::uint64_t held_bytes_max = 64ull << 20;
  // What a session reserves of dom0's memory for each epoch; where it is not there, the guest is
  // refused. 0: it is taken as it is, as one must be that an earlier process left.
  std::uint64_t staging_bytes = 0;
  std::uint32_t inflight_max = 2;
};

struct OpenedXen {
  Replica replica;
  std::string domain;  // "NUMBER/UUID": what tells it from a later one of the same number.
};

Result<xen::XenOptions> xen_options(const std::string& module, const std::string& adopt = {});
std::string domain_name(xen::DomId number, const xen::Uuid& uuid);

class XenOpener {
 public:
  // `guard` goes to the gates.
  XenOpener(XenSite site, GuestId guest, std::shared_ptr<ReleaseGuard> guard, Log& log)
      : site_(std::move(site)), guest_(std::move(guest)), guard_(std::move(guard)), log_(log) {}

  Result<OpenedXen> attach(const std::string& name);  // Or number.
  Result<OpenedXen> standby(const GuestInfo& primary);

 private:
  Result<xen::XenOptions> options() const;
  Status check_dom0(std::string_view what, const GuestInfo& guest, std::uint32_t epochs) const;
  Result<OpenedXen> with_gate(Result<std::unique_ptr<xen::XenGuest>> domain);

  const XenSite site_;
  const GuestId guest_;
  const std::shared_ptr<ReleaseGuard> guard_;
  Log& log_;
};

}  // namespace libft::host
