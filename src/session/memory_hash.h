// SPDX-License-Identifier: LGPL-2.1-or-later
// The hash by which `verify` compares two replicas, as FORMAT.md has it: XXH3-64 over the XXH3-64
// of each page, some pages left out. The pages are hashed first, because which ones are to be left
// out is known last.
#pragma once

#include <cstdint>
#include <vector>

#include "base/checksum.h"
#include "libft/guest.h"

namespace libft::session {

class MemoryHash {
 public:
  explicit MemoryHash(const GuestInfo& info) : info_(info) {
    pages_.reserve(info.pages());
    for (const auto& region : info.memory)
      for (std::size_t at = 0; at < region.bytes.size(); at += info.page_bytes)
        pages_.push_back(base::checksum(region.bytes.subspan(at, info.page_bytes)));
  }

  std::uint64_t without(const PageSet& left_out) const {
    if (left_out.empty()) return of(pages_);
    std::vector<std::uint64_t> kept;
    kept.reserve(pages_.size());
    auto hash = pages_.begin();
    for (const auto& region : info_.memory)
      for (std::uint64_t n = 0; n < region.bytes.size() / info_.page_bytes; ++n, ++hash)
        if (!left_out.contains(PageNo{region.first.value + n})) kept.push_back(*hash);
    return of(kept);
  }

 private:
  // As they lie in memory: little-endian, as all that libft runs on.
  static std::uint64_t of(std::span<const std::uint64_t> hashes) {
    return base::checksum(std::as_bytes(hashes));
  }

  const GuestInfo& info_;
  std::vector<std::uint64_t> pages_;
};

}  // namespace libft::session
