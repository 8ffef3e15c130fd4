// SPDX-License-Identifier: LGPL-2.1-or-later
// What protection costs: the same guest and the same load without a backup and with one, in the
// same run. The demo's main thread calls it.
#pragma once

#include <vector>

#include "demo/bench_row.h"
#include "demo/run.h"

namespace libft::demo {

// One key-value server, both loads, without protection and with options.strategy.
Result<std::vector<BenchRow>> run_bench(const RunParts& parts);
// Everything that the guest can be asked for, unprotected and by each strategy that this guest can
// have; after the rows of each, the primary's host dies. REQUIRES: options.all_loads.
Result<std::vector<BenchRow>> run_strategies(const RunParts& parts);
// The offered loads only, in a short while: unprotected, with the strategy of the runs, and with
// the one that options.beside names.
Result<std::vector<BenchRow>> run_beside(const RunParts& parts);

}  // namespace libft::demo
