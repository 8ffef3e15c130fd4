// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/recent_frames.h"

#include <doctest/doctest.h>

#include <numeric>
#include <vector>

using namespace libft;
using namespace libft::output;

namespace {

Time at(int ms) { return Time{Millis{ms}}; }

void push(RecentFrames& recent, unsigned number, Time now, std::size_t bytes = 100) {
  const std::vector<std::byte> frame(bytes);
  recent.push({number, frame}, now);  // Told apart by the NIC.
}

std::vector<unsigned> drain(RecentFrames& recent, Time since) {
  std::vector<unsigned> found;
  recent.drain(since, [&](const Frame& frame) { found.push_back(frame.nic); });
  return found;
}

}  // namespace

TEST_CASE("what came since a moment is handed over in order, once") {
  auto recent = RecentFrames::create(1 << 20);
  REQUIRE(recent);
  for (unsigned n = 0; n < 100; ++n) push(*recent, n, at(static_cast<int>(10 * n)));
  CHECK(drain(*recent, at(970)) == std::vector<unsigned>{97, 98, 99});
  CHECK(drain(*recent, at(0)).empty());
  push(*recent, 7, at(2000));
  CHECK(drain(*recent, at(0)) == std::vector<unsigned>{7});
}

TEST_CASE("the newest stay when memory is short, the largest frame included") {
  auto recent = RecentFrames::create(1);
  REQUIRE(recent);
  for (unsigned n = 0; n < 10'000; ++n) push(*recent, n, at(0));
  const auto found = drain(*recent, at(0));
  REQUIRE(found.size() > 100);
  std::vector<unsigned> newest(found.size());
  std::iota(newest.begin(), newest.end(), 10'000 - static_cast<unsigned>(found.size()));
  CHECK(found == newest);

  for (unsigned n = 0; n < 9; ++n) push(*recent, n, at(0), kFrameBytesMax);
  CHECK(drain(*recent, at(0)).back() == 8);
}
