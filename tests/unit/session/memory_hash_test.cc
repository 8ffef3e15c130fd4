// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/memory_hash.h"

#include <doctest/doctest.h>

#include <array>

using namespace libft;
using session::MemoryHash;

namespace {

constexpr std::uint32_t kPage = 512;

// Two regions with a hole between them: pages 0 to 9 and 100 to 104, each other than all others.
struct Memory {
  std::vector<std::byte> low = std::vector<std::byte>(10 * kPage);
  std::vector<std::byte> high = std::vector<std::byte>(5 * kPage);
  GuestInfo info;
  Memory() {
    for (std::size_t i = 0; i < 10; ++i) low[i * kPage] = std::byte(i + 1);
    for (std::size_t i = 0; i < 5; ++i) high[i * kPage] = std::byte(i + 100);
    info.page_bytes = kPage;
    info.memory = {{"low", PageNo{0}, low}, {"high", PageNo{100}, high}};
  }
  std::span<std::byte> page(std::uint64_t number) {
    return number < 100 ? std::span(low).subspan(number * kPage, kPage)
                        : std::span(high).subspan((number - 100) * kPage, kPage);
  }
  MemoryHash hash() {
    MemoryHash made(info);
    while (made.hash_some(4)) {
    }
    return made;
  }
};

wire::Verify question_of(const MemoryHash& memory, std::uint32_t group_pages) {
  return {.id = {},
          .memory_hash = memory.whole(),
          .left_out = {},
          .group_pages = group_pages,
          .groups = memory.groups(group_pages),
          .pages = {}};
}

}  // namespace

TEST_CASE("a question and an answer tell which pages differ, whatever the size of the groups") {
  for (const std::uint32_t group_pages : {1u, 4u, 15u, 1000u}) {
    Memory primary, backup;
    CHECK(primary.hash().whole() == backup.hash().whole());
    backup.page(3)[17] = std::byte{0xff};
    backup.page(104)[511] = std::byte{0xff};
    const MemoryHash ours = primary.hash(), theirs = backup.hash();
    CHECK(ours.whole() != theirs.whole());
    CHECK(ours.unlike(theirs.unlike(question_of(ours, group_pages))) ==
          std::vector<PageNo>{PageNo{3}, PageNo{104}});
  }
}

TEST_CASE("pages that are left out make no difference, and a peer may leave out what is not here") {
  Memory primary, backup;
  backup.page(3)[0] = std::byte{0xff};
  MemoryHash ours = primary.hash(), theirs = backup.hash();
  PageSet left_out;
  left_out.add(PageNo{3});
  left_out.add(PageNo{50}, std::uint64_t{1} << 55);
  ours.leave_out(left_out);
  theirs.leave_out(left_out);
  CHECK(ours.whole() == theirs.whole());
  CHECK(theirs.unlike(question_of(ours, 1)).empty());
  CHECK(theirs.unlike(question_of(ours, 4)).empty());
}

TEST_CASE("pages that change while the others are hashed are hashed as they were") {
  Memory before, changing;
  MemoryHash hash(changing.info);
  CHECK(hash.hash_some(6));
  for (const std::uint64_t page : {2, 9, 102}) {  // Hashed already, and not yet.
    hash.hash_now(changing.page(page));
    changing.page(page)[1] = std::byte{1};
  }
  while (hash.hash_some(1)) {
  }
  CHECK(hash.whole() == before.hash().whole());
}

TEST_CASE("a copy stands for a page, also when the page lies there already otherwise") {
  Memory memory;
  const auto before = memory.hash().whole();
  const std::vector<std::byte> copy(memory.page(101).begin(), memory.page(101).end());
  memory.page(101)[9] = std::byte{9};
  CHECK(memory.hash().whole() != before);
  MemoryHash hash(memory.info);
  hash.hash_copy(PageNo{101}, copy);
  while (hash.hash_some(100)) {
  }
  CHECK(hash.whole() == before);
}
