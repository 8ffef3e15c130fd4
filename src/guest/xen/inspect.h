// SPDX-License-Identifier: LGPL-2.1-or-later
// Looks at a domain that runs: what it is, and everything that keeps libft from protecting it, all
// at once. Session's thread, before a session has the guest.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "guest/xen/calls.h"
#include "guest/xen/shape.h"
#include "guest/xen/state.h"

namespace libft::xen {

// By name, or by number when `name` is one and no domain is named so.
Result<DomId> find_domain(XenCalls& calls, const std::string& name);

struct Inspection {
  Shape shape;
  std::vector<HvmParam> params;          // That a state carries.
  std::uint64_t console = 0, store = 0;  // Page numbers; 0: the domain has none.
  pid_t device_model = 0;                // The process; 0: it has none.
  std::vector<std::string> missing;      // Why it cannot be protected; empty: it can.
};

// A failure is one of asking; what the answers mean is in `missing`.
Result<Inspection> inspect(XenCalls& calls, DomId domain);

// Adds what the device model that inspect() found is like, and returns it; nothing where there is
// none.
Result<std::unique_ptr<DeviceModel>> inspect_model(DeviceModels& models, DomId domain,
                                                   Inspection& found);

// What a minor that libft does not know keeps it from, as an entry for `missing`.
std::vector<std::string> check_version(const XenVersion& version);

std::string domain_path(DomId domain, const std::string& node = {});

}  // namespace libft::xen
