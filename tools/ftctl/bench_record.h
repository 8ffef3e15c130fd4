// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl bench --machine --record`: what it costs a guest that runs to have its inputs and the
// hashes at its marks logged, as replay does. Prints as it goes. Main thread.
#pragma once

#include "cli.h"
#include "libft/status.h"
#include "report.h"

namespace libft::ftctl {

Status bench_record(const Arguments& arguments, Json& report);

}  // namespace libft::ftctl
