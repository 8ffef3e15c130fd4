// SPDX-License-Identifier: LGPL-2.1-or-later
// Percentiles and medians, by the nearest rank: a figure printed is one that was measured. Pure.
#pragma once

#include <vector>

namespace libft::demo {

// The least value that `percent` of all values do not exceed. 0 of nothing. REQUIRES: 0..100.
double percentile(std::vector<double> values, double percent);
inline double median(std::vector<double> values) { return percentile(std::move(values), 50); }

}  // namespace libft::demo
