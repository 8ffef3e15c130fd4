// SPDX-License-Identifier: LGPL-2.1-or-later
// Part of the wiring: Xen domains, the module that speaks to Xen, and the plug gate for their
// interfaces.
#pragma once

#include <memory>
#include <string>

#include "libft/session.h"
#include "wiring.h"

namespace libft::ftctl {

bool is_xen_guest(const std::string& spec);  // "xen:NAME"

// `guard` goes to the gate.
Result<Replica> open_xen(const Settings& settings, const GuestId& guest, const std::string& spec,
                         std::shared_ptr<ReleaseGuard> guard, Log& log);
Result<Replica> open_xen_standby(const Settings& settings, const GuestId& guest,
                                 const GuestInfo& primary, std::shared_ptr<ReleaseGuard> guard,
                                 Log& log);

std::string xen_module();  // Where libft-xen.so is; empty: nowhere.

}  // namespace libft::ftctl
