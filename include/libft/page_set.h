// SPDX-License-Identifier: LGPL-2.1-or-later
// A PageSet is a set of guest pages, kept as sorted runs because written pages come in runs.
// A value: copy, compare. Clearing keeps the memory, so that the hot path does not allocate.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "libft/types.h"

namespace libft {

struct PageRun {
  PageNo first;
  std::uint64_t count = 0;
  auto operator<=>(const PageRun&) const = default;
};

class PageSet {
 public:
  PageSet() = default;

  // Adds pages first .. first+count-1. Appending in ascending order is O(1); anything else is
  // linear in the number of runs.
  void add(PageNo first, std::uint64_t count = 1);
  // Adds all of them. Ascending runs of which none is empty or touches the next are copied as they
  // are. REQUIRES: no run ends beyond the last number.
  void add(std::span<const PageRun> runs);
  void merge(const PageSet& other);
  void clear() { runs_.clear(); pages_ = 0; }
  void reserve(std::size_t runs) { runs_.reserve(runs); }

  bool contains(PageNo page) const;
  bool empty() const { return pages_ == 0; }
  std::uint64_t pages() const { return pages_; }           // How many pages.
  std::span<const PageRun> runs() const { return runs_; }  // Sorted, disjoint, not adjacent.
  bool operator==(const PageSet&) const = default;

 private:
  std::vector<PageRun> runs_;
  std::uint64_t pages_ = 0;
};

}  // namespace libft
