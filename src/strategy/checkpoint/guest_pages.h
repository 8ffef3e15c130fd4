// SPDX-License-Identifier: LGPL-2.1-or-later
// GuestPages finds a page number in a guest's memory regions: its bytes, and its place in a dense
// count of all pages (what tables with an entry a page are indexed by).
// Immutable after it was made; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "libft/guest.h"

namespace libft::checkpoint {

class GuestPages {
 public:
  explicit GuestPages(const GuestInfo& info) : page_bytes_(info.page_bytes) {
    for (const MemoryRegion& region : info.memory) {
      const std::uint64_t pages = region.bytes.size() / page_bytes_;
      regions_.push_back({region.first.value, pages, pages_, region.bytes.data()});
      pages_ += pages;
    }
  }

  std::uint64_t pages() const { return pages_; }
  std::size_t page_bytes() const { return page_bytes_; }
  std::size_t bytes() const { return pages_ * page_bytes_; }

  std::optional<std::uint64_t> index(PageNo page) const {
    const Region* region = find(page.value);
    if (region == nullptr) return std::nullopt;
    return region->index + (page.value - region->first);
  }

  // From this page to the end of its region; empty when there is no such page.
  std::span<std::byte> from(PageNo page) const {
    const Region* region = find(page.value);
    if (region == nullptr) return {};
    const std::uint64_t offset = page.value - region->first;
    return {region->bytes + offset * page_bytes_, (region->pages - offset) * page_bytes_};
  }

 private:
  struct Region {
    std::uint64_t first, pages, index;
    std::byte* bytes;
  };
  const Region* find(std::uint64_t page) const {
    const auto after = std::partition_point(regions_.begin(), regions_.end(),
                                            [page](const Region& r) { return r.first <= page; });
    if (after == regions_.begin()) return nullptr;
    const Region& region = *(after - 1);
    return page - region.first < region.pages ? &region : nullptr;
  }

  std::size_t page_bytes_;
  std::uint64_t pages_ = 0;
  std::vector<Region> regions_;
};

}  // namespace libft::checkpoint
