// SPDX-License-Identifier: LGPL-2.1-or-later
// The hash by which `verify` compares two replicas, as FORMAT.md has it: XXH3-64 over the XXH3-64
// of each page, some pages left out. Hashing a large guest takes seconds, so it is done in pieces,
// between which its owner does other work; which pages are left out is known last.
// REQUIRES: the guest's memory outlives it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "libft/guest.h"
#include "wire/message.h"

namespace libft::session {

class MemoryHash {
 public:
  explicit MemoryHash(const GuestInfo& info);

  // Hashes up to so many pages more, as they are now; false when none was left.
  bool hash_some(std::size_t pages);
  // The page that lies there is about to change: hashes it, unless that was done.
  void hash_now(std::span<const std::byte> page);
  // Of this page `bytes` count, and not what lies in the guest's memory.
  void hash_copy(PageNo page, std::span<const std::byte> bytes);

  // The rest needs all pages hashed.
  void leave_out(const PageSet& pages);
  std::uint64_t whole() const;

  // To find out where two of them differ, in one question and one answer: the primary's groups, of
  // as many pages each as keeps their number small; the backup's pages of the first groups that
  // are others here; and the primary's own pages that are not those.
  std::uint32_t group_pages() const;
  std::vector<std::uint64_t> groups(std::uint32_t pages_each) const;
  std::vector<wire::PageHash> unlike(const wire::Verify& question) const;
  std::vector<PageNo> unlike(const std::vector<wire::PageHash>& answer) const;

 private:
  enum class State : std::uint8_t { waiting, hashed, left_out };
  struct Region {
    PageNo first;
    std::size_t index = 0;  // Of its first page, among all pages in ascending order.
    std::span<const std::byte> bytes;
  };
  std::span<const std::byte> page_at(std::size_t index) const;
  PageNo number_at(std::size_t index) const;
  const Region& region_at(std::size_t index) const;
  std::optional<std::size_t> index_of(PageNo page) const;
  void hash(std::size_t index, std::span<const std::byte> bytes);

  std::size_t page_bytes_;
  std::vector<Region> regions_;
  std::vector<std::uint64_t> hashes_;
  std::vector<State> states_;
  std::size_t next_ = 0;  // For hash_some().
};

}  // namespace libft::session
