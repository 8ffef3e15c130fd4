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

struct OpenedXen {
  Replica replica;
  std::string domain;  // For the state file.
};

// `guard` goes to the gate. A guest that an earlier ftctl left is taken up as the very domain that
// it was; one that is protected first, by the name in its description.
Result<OpenedXen> open_xen(const Settings& settings, const GuestId& guest,
                           const GuestSource& source, std::shared_ptr<ReleaseGuard> guard,
                           Log& log);
Result<OpenedXen> open_xen_standby(const Settings& settings, const GuestId& guest,
                                   const GuestInfo& primary, std::shared_ptr<ReleaseGuard> guard,
                                   Log& log);

// `domain` as in a state file.
Result<bool> xen_domain_lives(const std::string& domain);
// Destroys it, and drops what its gate still holds. ok when it was gone already.
Status stop_xen_domain(const std::string& domain, const GuestId& guest);

// Has xen-end-duty wait for the domain's end, beside this process. Returns what was done, for the
// log.
std::string hand_back_xen_domain(const std::string& domain);

std::string xen_module();  // Where libft-xen.so is; empty: nowhere.

}  // namespace libft::ftctl
