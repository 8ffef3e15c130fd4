// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libft/page_set.h"

#include <algorithm>

namespace libft {
namespace {

std::uint64_t end_of(const PageRun& run) { return run.first.value + run.count; }

}  // namespace

void PageSet::add(PageNo first, std::uint64_t count) {
  if (count == 0) return;
  std::uint64_t begin = first.value, end = begin + count;
  if (runs_.empty() || end_of(runs_.back()) < begin) {  // Ascending: the usual case.
    runs_.push_back({first, count});
    pages_ += count;
    return;
  }
  // All runs that touch [begin, end] melt into one.
  const auto from = std::partition_point(runs_.begin(), runs_.end(),
                                         [&](const PageRun& r) { return end_of(r) < begin; });
  auto to = from;
  for (; to != runs_.end() && to->first.value <= end; ++to) {
    begin = std::min(begin, to->first.value);
    end = std::max(end, end_of(*to));
    pages_ -= to->count;
  }
  pages_ += end - begin;
  const PageRun melted{PageNo{begin}, end - begin};
  if (from == to) {
    runs_.insert(from, melted);
  } else {
    *from = melted;
    runs_.erase(from + 1, to);
  }
}

void PageSet::add(std::span<const PageRun> runs) {
  std::uint64_t end = runs_.empty() ? 0 : end_of(runs_.back());
  bool as_they_are = true;
  std::uint64_t sum = 0;
  for (const PageRun& run : runs) {  // No branch: this is on the way of every checkpoint.
    as_they_are &= (run.count != 0) & ((run.first.value > end) | (end == 0));
    end = end_of(run);
    sum += run.count;
  }
  if (!as_they_are) {
    for (const PageRun& run : runs) add(run.first, run.count);
    return;
  }
  runs_.insert(runs_.end(), runs.begin(), runs.end());
  pages_ += sum;
}

void PageSet::merge(const PageSet& other) {
  if (other.empty()) return;
  PageSet merged;
  merged.runs_.reserve(runs_.size() + other.runs_.size());
  auto a = runs_.begin();
  auto b = other.runs_.begin();
  while (a != runs_.end() || b != other.runs_.end()) {
    const bool take_a = b == other.runs_.end() || (a != runs_.end() && a->first < b->first);
    const PageRun& run = take_a ? *a++ : *b++;
    merged.add(run.first, run.count);
  }
  *this = std::move(merged);
}

bool PageSet::contains(PageNo page) const {
  const auto run = std::partition_point(runs_.begin(), runs_.end(),
                                        [&](const PageRun& r) { return end_of(r) <= page.value; });
  return run != runs_.end() && run->first <= page;
}

}  // namespace libft
