// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "guest/xen/facts.h"
#include "os/fd.h"

namespace libft::xen {
namespace {

constexpr std::uint64_t kLookAtOnce = 1024;  // Xen's own limit.
constexpr std::uint64_t kMapAtOnce = 16384;
constexpr std::uint64_t kPopulateAtOnce = 1024;
constexpr std::uint64_t kPageNumbersMax = std::uint64_t{1} << 32;  // 16 TiB.
constexpr std::uint64_t kSuperpage = std::uint64_t{1} << kSuperpageOrder;

void add_page(std::vector<PageRun>& runs, std::uint64_t page) {
  if (!runs.empty() && runs.back().first.value + runs.back().count == page) {
    ++runs.back().count;
  } else {
    runs.push_back({PageNo{page}, 1});
  }
}

std::uint64_t end_of(const MemoryRegion& region) {
  return region.first.value + region.bytes.size() / kPageBytes;
}

// Collects page numbers and reserves them, so many at a time.
class Reservation {
 public:
  Reservation(XenCalls& calls, DomId domain, unsigned order)
      : calls_(calls), domain_(domain), order_(order) {}
  Status add(std::uint64_t page) {
    pages_.push_back(page);
    return pages_.size() < kPopulateAtOnce ? Status() : flush();
  }
  Status flush() {
    if (pages_.empty()) return {};
    const Status done = calls_.populate(domain_, pages_, order_);
    if (!done.ok() && order_ == kSuperpageOrder) return one_by_one();
    pages_.clear();
    return done;
  }

 private:
  // No 2 MiB pieces are left on the host, or not enough; some may be reserved already.
  Status one_by_one() {
    Reservation small(calls_, domain_, 0);
    for (const std::uint64_t first : pages_) {
      std::array<bool, kSuperpage> present{};
      FT_TRY(calls_.look(domain_, first, present));
      for (std::uint64_t i = 0; i < kSuperpage; ++i)
        if (!present[i]) FT_TRY(small.add(first + i));
    }
    pages_.clear();
    return small.flush();
  }

  XenCalls& calls_;
  const DomId domain_;
  const unsigned order_;
  std::vector<std::uint64_t> pages_;
};

Status map_run(XenCalls& calls, DomId domain, const PageRun& run, std::byte* at) {
  std::vector<std::uint64_t> pages;
  for (std::uint64_t done = 0; done < run.count; done += pages.size()) {
    pages.resize(std::min(kMapAtOnce, run.count - done));
    for (std::uint64_t i = 0; i < pages.size(); ++i) pages[i] = run.first.value + done + i;
    FT_TRY(calls.map(domain, pages, at + done * kPageBytes));
  }
  return {};
}

}  // namespace

Result<std::vector<PageRun>> find_memory(XenCalls& calls, DomId domain, std::uint64_t total) {
  FT_ASSIGN(const std::uint64_t numbers, calls.page_numbers(domain));
  if (numbers > kPageNumbersMax)
    return failure(Code::unsupported,
                   fmt::format("the domain's highest page number is {}, and libft's limit {}",
                               numbers, kPageNumbersMax));
  std::vector<std::uint64_t> found;
  std::array<bool, kLookAtOnce> present{};
  const auto look = [&](std::uint64_t first) -> Status {
    const std::uint64_t count = std::min(kLookAtOnce, numbers - first);
    FT_TRY(calls.look(domain, first, std::span(present).first(count)));
    for (std::uint64_t i = 0; i < count; ++i)
      if (present[i]) found.push_back(first + i);
    return {};
  };
  std::uint64_t low = 0, high = (numbers + kLookAtOnce - 1) / kLookAtOnce;  // In pieces.
  while (low < high && found.size() < total) {
    FT_TRY(look(low++ * kLookAtOnce));
    if (low < high && found.size() < total) FT_TRY(look(--high * kLookAtOnce));
  }
  std::sort(found.begin(), found.end());
  std::vector<PageRun> runs;
  for (const std::uint64_t page : found) add_page(runs, page);
  return runs;
}

Status populate_memory(XenCalls& calls, DomId domain, std::span<const PageRun> runs) {
  Reservation large(calls, domain, kSuperpageOrder), small(calls, domain, 0);
  for (const PageRun& run : runs) {
    const std::uint64_t end = run.first.value + run.count;
    for (std::uint64_t page = run.first.value; page < end;) {
      const bool whole = page % kSuperpage == 0 && end - page >= kSuperpage;
      FT_TRY(whole ? large.add(page) : small.add(page));
      page += whole ? kSuperpage : 1;
    }
  }
  FT_TRY(large.flush());
  return small.flush();
}

DomainMemory::DomainMemory(DomainMemory&& other) noexcept
    : regions_(std::exchange(other.regions_, {})), pages_(std::exchange(other.pages_, 0)) {}

DomainMemory& DomainMemory::operator=(DomainMemory&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  regions_ = std::exchange(other.regions_, {});
  pages_ = std::exchange(other.pages_, 0);
  return *this;
}

void DomainMemory::unmap() {
  for (const MemoryRegion& region : regions_) ::munmap(region.bytes.data(), region.bytes.size());
  regions_.clear();
  pages_ = 0;
}

Result<DomainMemory> DomainMemory::map(XenCalls& calls, DomId domain,
                                       std::span<const PageRun> runs) {
  DomainMemory memory;
  for (const PageRun& run : runs) {
    const std::size_t bytes = run.count * kPageBytes;
    void* const at =
        ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
      return failure(os::errno_status("reserve addresses for the guest's memory"));
    const std::span region(static_cast<std::byte*>(at), bytes);
    memory.regions_.push_back({"ram", run.first, region});
    memory.pages_ += run.count;
    FT_TRY(map_run(calls, domain, run, region.data()));
  }
  return memory;
}

std::span<std::byte> DomainMemory::page(std::uint64_t number) const {
  for (const MemoryRegion& region : regions_) {
    if (number >= region.first.value && number < end_of(region))
      return region.bytes.subspan((number - region.first.value) * kPageBytes, kPageBytes);
  }
  return {};
}

// Word by word: a bitmap of a small guest is nearly all zero, since its last pages are below 4 GiB.
void DomainMemory::select(std::span<const std::uint64_t> bits, PageSet& written) const {
  for (const MemoryRegion& region : regions_) {
    const std::uint64_t end = std::min<std::uint64_t>(end_of(region), bits.size() * 64);
    for (std::uint64_t page = region.first.value; page < end;) {
      const std::uint64_t rest = bits[page / 64] >> (page % 64);
      if (rest == 0) {
        page = (page / 64 + 1) * 64;
        continue;
      }
      page += static_cast<unsigned>(std::countr_zero(rest));
      if (page >= end) break;
      const auto run = static_cast<std::uint64_t>(std::countr_one(bits[page / 64] >> (page % 64)));
      const std::uint64_t count = std::min(run, end - page);
      written.add(PageNo{page}, count);
      page += count;
    }
  }
}

void DomainMemory::select_all(PageSet& written) const {
  for (const MemoryRegion& region : regions_)
    written.add(region.first, region.bytes.size() / kPageBytes);
}

bool looks_like_events(std::span<const std::byte> page) {
  constexpr std::uint32_t kMasked = 1u << 30, kUnused = 0x0ffe0000;
  std::size_t masked = 0;
  for (std::size_t at = 0; at + sizeof(std::uint32_t) <= page.size(); at += sizeof(std::uint32_t)) {
    std::uint32_t word = 0;
    std::memcpy(&word, page.data() + at, sizeof word);
    if ((word & kUnused) != 0) return false;
    if (word == kMasked) ++masked;
  }
  return !page.empty() && masked * sizeof(std::uint32_t) >= page.size() / 2;
}

std::vector<PageRun> runs_of(const GuestInfo& info) {
  std::vector<PageRun> runs;
  for (const MemoryRegion& region : info.memory)
    runs.push_back({region.first, region.bytes.size() / info.page_bytes});
  return runs;
}

}  // namespace libft::xen
