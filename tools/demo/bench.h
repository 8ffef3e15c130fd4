// SPDX-License-Identifier: LGPL-2.1-or-later
// What protection costs: the same guest and the same load without a backup and with one, in the
// same run, and a table of it. The demo's main thread calls it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "demo/run.h"

namespace libft::demo {

struct BenchRow {
  std::string what;  // "unprotected", or the strategy
  std::string load;  // "open 200/s", "closed"
  double seconds = 0;
  double writes_per_s = 0;
  double client_p50 = 0, client_p99 = 0, client_max = 0;
  bool is_protected = false;  // Only then are the following filled in.
  double checkpoints_per_s = 0, stopped_p50 = 0, stopped_p99 = 0, pages = 0, mb_per_s = 0;
  double held_p50 = 0, held_p99 = 0;
  double stopped_percent = 0;  // Of the time: the guest stood still.
  std::optional<double>
      gap_ms;  // Between two answers, when the primary's host died behind the row.
};

Result<std::vector<BenchRow>> run_bench(const RunParts& parts);
// The offered load only, in a short while: unprotected, with the strategy of the runs, and with the
// one that options.beside names.
Result<std::vector<BenchRow>> run_beside(const RunParts& parts);
std::string beside_text(const std::vector<BenchRow>& rows);
std::string bench_table(const std::vector<BenchRow>& rows);
Json to_json(const std::vector<BenchRow>& rows);

}  // namespace libft::demo
