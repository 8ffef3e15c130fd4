// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl bench --machine --smp`: what harts cost that execute at once and are recorded, beside
// harts in turns, by how they share memory; and that doing it again leads to the same state. Prints
// as it goes. Main thread.
#pragma once

#include "cli.h"
#include "libft/status.h"
#include "report.h"

namespace libft::ftctl {

Status bench_smp(const Arguments& arguments, Json& report);

}  // namespace libft::ftctl
