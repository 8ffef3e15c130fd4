// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/mmap_arena.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

using namespace libft;
using namespace libft::os;

namespace {

std::size_t resident_pages(std::span<std::byte> span) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> resident((span.size() + page - 1) / page);
  REQUIRE(::mincore(span.data(), span.size(), resident.data()) == 0);
  return static_cast<std::size_t>(
      std::ranges::count_if(resident, [](unsigned char r) { return (r & 1) != 0; }));
}

}  // namespace

TEST_CASE("what was asked to be ready is backed by memory, the rest is not") {
  MmapArena arena;
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  auto span = arena.reserve(64 * kMiB, 4 * kMiB);
  REQUIRE(span.has_value());
  CHECK(span->size() == 64 * kMiB);
  CHECK(resident_pages(span->first(4 * kMiB)) == 1024);
  CHECK(resident_pages(span->subspan(8 * kMiB)) == 0);
  std::ranges::fill(span->last(kMiB), std::byte{7});
  CHECK(span->back() == std::byte{7});
}

TEST_CASE("more address space than memory can be reserved, and given back") {
  MmapArena arena;
  // ThreadSanitizer leaves 1.5 TiB of addresses, somewhere within which others lie at random: a TiB
  // in one piece was not always there.
  auto large = arena.reserve(std::size_t{1} << 37, 0);
  REQUIRE(large.has_value());
  arena.give_back(*large);
  arena.give_back(*large);  // Not reserved any more: no effect.
  auto odd = arena.reserve(5000, 5000);
  REQUIRE(odd.has_value());
  CHECK(odd->size() == 5000);
  CHECK(arena.reserve(0, 0).error().code() == Code::invalid);
}
