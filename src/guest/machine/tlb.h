// SPDX-License-Identifier: LGPL-2.1-or-later
// The interpreter's translation caches: direct mapped, for one privilege context. An entry's tag is
// the page's virtual address; what is not there takes the slow way. A value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "op.h"

namespace libft::machine {

inline constexpr std::size_t kTlbEntries = 256;
inline constexpr std::uint64_t kNoTag = ~std::uint64_t{0};  // No page has that address.

struct TlbEntry {
  std::uint64_t tag = kNoTag;
  std::uint64_t addend = 0;  // To the virtual address: the host's.
};

struct FetchEntry {
  std::uint64_t tag = kNoTag;
  DecodedPage* page = nullptr;
};

struct Tlb {
  std::array<TlbEntry, kTlbEntries> read, write;
  std::array<FetchEntry, kTlbEntries> fetch;
  bool used = false;  // Something is in it.

  static constexpr std::size_t index(std::uint64_t address) {
    return (address / kPageBytes) % kTlbEntries;
  }
};

// What a size-aligned access compares with the tag: misaligned ones never match.
constexpr std::uint64_t tag_of(std::uint64_t address, std::uint64_t size) {
  return address & (~(kPageBytes - 1) | (size - 1));
}

}  // namespace libft::machine
