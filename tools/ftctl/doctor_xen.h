// SPDX-License-Identifier: LGPL-2.1-or-later
// What `ftctl doctor` says on a Xen host: whether Xen's release is known, whether the module and
// the kernel's queues are there, which domains can be protected, in which class, and what that
// takes. Main thread.
#pragma once

#include "findings.h"
#include "plan.h"
#include "settings.h"

namespace libft::ftctl {

bool is_xen_host();  // A control domain.
void look_at_xen(Findings& findings);

// `doctor --plan xen:NAME`, on the host where the domain runs or on one that would be its backup.
// A failure: Xen cannot be asked.
Result<XenPlan> plan_of_domain(const std::string& spec, PlanInput input, const Settings& settings);

}  // namespace libft::ftctl
