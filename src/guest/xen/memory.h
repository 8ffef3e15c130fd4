// SPDX-License-Identifier: LGPL-2.1-or-later
// DomainMemory is a domain's memory, mapped into this process for as long as this object lives:
// mapping costs far more than copying, so it is done once. Session's thread.
//
// A mapping holds a reference on the frames it was made of. What the guest gives back (balloon)
// stays allocated and counted; what it takes instead is another frame that the mapping does not
// show. So the number of the domain's pages grows as soon as a mapping goes stale, which the
// driver looks at in each epoch, before it believes what it copied.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "guest/xen/calls.h"
#include "libft/guest.h"

namespace libft::xen {

// The page numbers at which the domain has ordinary memory: not what Xen lends it (grant table,
// shared info), which is remade where it is restored. Looks from both ends, since between a small
// guest's memory and its special pages below 4 GiB lies a million of nothing, and no further than
// until `total` pages were found.
Result<std::vector<PageRun>> find_memory(XenCalls& calls, DomId domain, std::uint64_t total);

// Reserves exactly those pages for a domain that has none yet; in 2 MiB pieces where possible.
Status populate_memory(XenCalls& calls, DomId domain, std::span<const PageRun> runs);

inline bool has(std::span<const std::uint64_t> bits, std::uint64_t page) {
  return page / 64 < bits.size() && (bits[page / 64] >> page % 64 & 1) != 0;
}

class DomainMemory {
 public:
  DomainMemory() = default;
  DomainMemory(DomainMemory&& other) noexcept;
  DomainMemory& operator=(DomainMemory&& other) noexcept;
  ~DomainMemory() { unmap(); }

  static Result<DomainMemory> map(XenCalls& calls, DomId domain, std::span<const PageRun> runs);

  const std::vector<MemoryRegion>& regions() const { return regions_; }
  std::uint64_t pages() const { return pages_; }
  std::span<std::byte> page(std::uint64_t number) const;  // Empty: there is none.

  // Adds the pages whose bits are set and that are here to `written`.
  void select(std::span<const std::uint64_t> bits, PageSet& written) const;
  void select_all(PageSet& written) const;

 private:
  void unmap();
  std::vector<MemoryRegion> regions_;
  std::uint64_t pages_ = 0;
};

// Whether a page looks like an array of event words (public/event_channel.h, FIFO event channels):
// hardly more than a few of its 1024 ports are in use, and the others are masked. Xen writes there,
// and its log does not know.
bool looks_like_events(std::span<const std::byte> page);

std::vector<PageRun> runs_of(const GuestInfo& info);

}  // namespace libft::xen
