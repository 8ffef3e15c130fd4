// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/log_marks.h"

#include <algorithm>
#include <utility>

#include "guest/xen/memory.h"

namespace libft::xen {
namespace {

constexpr std::size_t kMarks = 4;
constexpr int kAttempts = 64;  // A guest that has just written everything has none to choose from.

}  // namespace

LogMarks::LogMarks(std::vector<PageRun> pages) : pages_(std::move(pages)) {
  for (const PageRun& run : pages_) count_ += run.count;
  marks_.reserve(kMarks);
}

std::span<const std::uint64_t> LogMarks::choose(std::span<const std::uint64_t> written) {
  marks_.clear();
  for (int attempt = 0; attempt < kAttempts && marks_.size() < kMarks && count_ != 0; ++attempt) {
    const std::uint64_t page = any_page();
    if (!has(written, page)) marks_.push_back(page);
  }
  if (marks_.empty() && count_ != 0) marks_.push_back(any_page());
  return marks_;
}

bool LogMarks::all_in(std::span<const std::uint64_t> written) const {
  return std::all_of(marks_.begin(), marks_.end(),
                     [&](std::uint64_t page) { return has(written, page); });
}

std::uint64_t LogMarks::any_page() {
  std::uint64_t at = std::uniform_int_distribution<std::uint64_t>(0, count_ - 1)(random_);
  for (const PageRun& run : pages_) {
    if (at < run.count) return run.first.value + at;
    at -= run.count;
  }
  return 0;
}

}  // namespace libft::xen
