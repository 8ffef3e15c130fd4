// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libft/page_set.h"

#include <doctest/doctest.h>

#include <random>
#include <set>

using libft::PageNo;
using libft::PageSet;

namespace {

void check_equal(const PageSet& set, const std::set<std::uint64_t>& model) {
  REQUIRE(set.pages() == model.size());
  std::uint64_t previous_end = 0;
  bool first = true;
  for (const auto& run : set.runs()) {
    REQUIRE(run.count > 0);
    REQUIRE((first || run.first.value > previous_end));  // Sorted, disjoint and not adjacent.
    for (std::uint64_t i = 0; i < run.count; ++i) REQUIRE(model.contains(run.first.value + i));
    previous_end = run.first.value + run.count;
    first = false;
  }
}

}  // namespace

TEST_CASE("many runs added at once are what they are one by one") {
  std::mt19937_64 random(11);
  for (int round = 0; round < 500; ++round) {
    PageSet at_once, one_by_one;
    for (int part = 0; part < 3; ++part) {  // The first parts leave something to meet.
      std::vector<libft::PageRun> runs;
      const bool in_order = random() % 2 == 0;
      std::uint64_t next = one_by_one.pages() + random() % 40;
      for (int i = 0; i < 8; ++i) {
        const std::uint64_t count = random() % (in_order ? 3 : 5);
        next = in_order ? next + count + random() % 3 : random() % 200;
        runs.push_back({PageNo{next}, count});
        one_by_one.add(PageNo{next}, count);
        if (in_order) next += count;
      }
      at_once.add(std::span<const libft::PageRun>(runs));
      CHECK(at_once == one_by_one);
    }
  }
}

TEST_CASE("a page set behaves like a set of numbers") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    PageSet a, b;
    std::set<std::uint64_t> model_a, model_b;
    for (int i = 0; i < 40; ++i) {
      const std::uint64_t first = random() % 200, count = random() % 9;
      auto& set = i % 2 ? a : b;
      auto& model = i % 2 ? model_a : model_b;
      set.add(PageNo{first}, count);
      for (std::uint64_t p = first; p < first + count; ++p) model.insert(p);
      check_equal(set, model);
    }
    for (std::uint64_t p = 0; p < 220; ++p) CHECK(a.contains(PageNo{p}) == model_a.contains(p));
    a.merge(b);
    model_a.insert(model_b.begin(), model_b.end());
    check_equal(a, model_a);
  }
}
