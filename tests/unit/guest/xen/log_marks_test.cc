// SPDX-License-Identifier: LGPL-2.1-or-later
// The pages by which libft sees that Xen's log of written pages is still its own.
#include "guest/xen/log_marks.h"

#include <doctest/doctest.h>

#include <set>

using namespace libft;
using namespace libft::xen;

namespace {

std::vector<PageRun> pages() { return {{PageNo{0}, 64}, {PageNo{128}, 64}}; }

std::vector<std::uint64_t> bits_of(std::span<const std::uint64_t> pages) {
  std::vector<std::uint64_t> bits(3);
  for (const std::uint64_t page : pages) bits[page / 64] |= std::uint64_t{1} << page % 64;
  return bits;
}

}  // namespace

TEST_CASE("marks are pages that the domain has, that were not written, and others each time") {
  LogMarks marks(pages());
  std::vector<std::uint64_t> written(3, ~std::uint64_t{0});
  written[2] = 0xffff'ffff;  // Of the second run's pages, half.
  std::set<std::uint64_t> chosen;
  for (int round = 0; round < 20; ++round)
    for (const std::uint64_t page : marks.choose(written)) {
      CHECK(page >= 160);
      CHECK(page < 192);
      chosen.insert(page);
    }
  CHECK(chosen.size() > 8);
}

TEST_CASE("a log that lacks a mark is another's") {
  LogMarks marks(pages());
  const auto chosen = marks.choose({});
  REQUIRE(chosen.size() == 4);
  CHECK(marks.all_in(bits_of(chosen)));
  CHECK_FALSE(marks.all_in(bits_of(chosen.first(3))));
  marks.forget();
  CHECK(marks.all_in({}));
}

TEST_CASE("a domain that has written all its memory has a mark nevertheless") {
  LogMarks marks(pages());
  const std::vector<std::uint64_t> all(3, ~std::uint64_t{0});
  CHECK(marks.choose(all).size() == 1);
}
