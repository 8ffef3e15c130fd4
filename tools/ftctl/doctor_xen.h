// SPDX-License-Identifier: LGPL-2.1-or-later
// What `ftctl doctor` says on a Xen host: whether Xen's release is known, whether the module and the
// kernel's queues are there, and which domains can be protected, in which class. Main thread.
#pragma once

#include "findings.h"

namespace libft::ftctl {

bool is_xen_host();  // A control domain.
void look_at_xen(Findings& findings);

}  // namespace libft::ftctl
