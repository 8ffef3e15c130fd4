// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/mmap_arena.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "os/fd.h"

namespace libft::os {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSmallPage = 4096;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14.

// Reserves more and cuts both ends off: huge pages need the alignment.
Result<std::byte*> map_aligned(std::size_t bytes) {
  const std::size_t total = bytes + kHugePage;
  void* mapped = ::mmap(nullptr, total, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return failure(errno_status(fmt::format("reserve {} bytes", bytes)));
  auto* begin = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::size_t before = (kHugePage - address % kHugePage) % kHugePage;
  if (before > 0) ::munmap(begin, before);
  if (before < kHugePage) ::munmap(begin + before + bytes, kHugePage - before);
  return begin + before;
}

Status make_ready(std::byte* begin, std::size_t bytes) {
  if (bytes == 0 || ::madvise(begin, bytes, kPopulateWrite) == 0) return {};
  if (errno != EINVAL && errno != ENOSYS)
    return Status(Code::exhausted,
                  errno_status(fmt::format("make {} bytes of memory ready", bytes)).message());
  for (std::size_t at = 0; at < bytes; at += kSmallPage) {
    volatile std::byte* page = begin + at;
    *page = std::byte{0};
  }
  return {};
}

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kSmallPage - 1) / kSmallPage * kSmallPage;
}

}  // namespace

MmapArena::~MmapArena() {
  for (const auto& span : reserved_) ::munmap(span.data(), whole_pages(span.size()));
}

Result<std::span<std::byte>> MmapArena::reserve(std::size_t bytes, std::size_t ready_bytes) {
  if (bytes == 0 || bytes > SIZE_MAX / 2)
    return failure(Code::invalid, fmt::format("reserve {} bytes of staging memory", bytes));
  FT_ASSIGN(std::byte * begin, map_aligned(whole_pages(bytes)));
  ::madvise(begin, whole_pages(bytes), MADV_HUGEPAGE);  // A hint: a host without them may refuse.
  if (Status ready = make_ready(begin, whole_pages(std::min(bytes, ready_bytes))); !ready.ok()) {
    ::munmap(begin, whole_pages(bytes));
    return failure(std::move(ready));
  }
  return reserved_.emplace_back(begin, bytes);
}

void MmapArena::give_back(std::span<std::byte> reserved) {
  const auto same = [&](const auto& span) { return span.data() == reserved.data(); };
  const auto found = std::ranges::find_if(reserved_, same);
  if (found == reserved_.end()) return;
  ::munmap(found->data(), whole_pages(found->size()));
  reserved_.erase(found);
}

}  // namespace libft::os
