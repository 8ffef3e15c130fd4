// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of docs/STRATEGIES.md: what each strategy costs, beside the same guest unprotected, and
// whether comparing pays; and how it gets between the marks there. Values and functions of values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "demo/bench_row.h"
#include "libft/status.h"

namespace libft::demo {

// A line for each thing asked for and strategy: its rows of both loads, joined. Then where output
// comparison pays, if there are rows of it beside those of checkpoints.
std::string strategy_table(const std::vector<BenchRow>& rows);

// `document` with `text` in the place of what stands between <!-- NAME --> and <!-- /NAME -->.
// Code::not_found when it has not got these marks, once each and in this order.
Result<std::string> put_between_marks(std::string_view document, std::string_view name,
                                      std::string_view text);

}  // namespace libft::demo
