// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl bench --machine`: how fast the deterministic machine executes, beside QEMU's translator on
// the same guest in the same run. Prints as it goes. Main thread.
#pragma once

#include "cli.h"
#include "libft/status.h"
#include "report.h"

namespace libft::ftctl {

Status bench_machine(const Arguments& arguments, Json& report);

}  // namespace libft::ftctl
