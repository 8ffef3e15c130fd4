// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/statistics.h"

#include <algorithm>
#include <cmath>

namespace libft::demo {

double percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(percent / 100.0 * static_cast<double>(values.size()));
  const auto at = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return values[std::min(at, values.size() - 1)];
}

}  // namespace libft::demo
