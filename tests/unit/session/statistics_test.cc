// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/statistics.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace libft;
using namespace libft::session;

TEST_CASE("percentiles are those of the newest samples, by nearest rank") {
  CHECK(Series().percentiles().max == 0);
  std::mt19937_64 random(3);
  for (const std::size_t count : {1, 2, 3, 99, 100, 101, 4096, 5000, 20000}) {
    CAPTURE(count);
    Series series;
    std::vector<double> all;
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(double(random() % 1000));
      series.add(all.back());
    }
    if (all.size() > 4096) all.erase(all.begin(), all.end() - 4096);
    std::ranges::sort(all);
    const Percentiles found = series.percentiles();
    CHECK(found.p50 == all[std::size_t(double(all.size()) * 0.50)]);
    CHECK(found.p99 == all[std::size_t(double(all.size()) * 0.99)]);
    CHECK(found.max == all.back());
    CHECK(series.percentiles().p50 == found.p50);  // Asked again: the same.
  }
}
