// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/memory_hash.h"

#include <algorithm>

#include "base/assert.h"
#include "base/checksum.h"

namespace libft::session {
namespace {

// As they lie in memory: little-endian, as all that libft runs on.
std::uint64_t hash_of(const std::vector<std::uint64_t>& hashes) {
  return base::checksum(std::as_bytes(std::span(hashes)));
}

}  // namespace

MemoryHash::MemoryHash(const GuestInfo& info)
    : page_bytes_(info.page_bytes),
      hashes_(info.pages(), 0),
      states_(info.pages(), State::waiting) {
  std::size_t index = 0;
  for (const auto& region : info.memory) {
    regions_.push_back({region.first, index, region.bytes});
    index += region.bytes.size() / page_bytes_;
  }
}

// --- hashing ------------------------------------------------------------------------------------

bool MemoryHash::hash_some(std::size_t pages) {
  for (; next_ < states_.size() && pages > 0; ++next_) {
    if (states_[next_] != State::waiting) continue;
    hash(next_, page_at(next_));
    --pages;
  }
  return next_ < states_.size();
}

void MemoryHash::hash_now(std::span<const std::byte> page) {
  for (const Region& region : regions_) {
    const std::byte* const begin = region.bytes.data();
    if (page.data() < begin || page.data() >= begin + region.bytes.size()) continue;
    const std::size_t index =
        region.index + static_cast<std::size_t>(page.data() - begin) / page_bytes_;
    if (states_[index] == State::waiting) hash(index, page);
  }
}

void MemoryHash::hash_copy(PageNo page, std::span<const std::byte> bytes) {
  const auto index = index_of(page);
  FT_ASSERT(index.has_value());
  hash(*index, bytes);
}

void MemoryHash::hash(std::size_t index, std::span<const std::byte> bytes) {
  hashes_[index] = base::checksum(bytes);
  states_[index] = State::hashed;
}

// What a peer leaves out may reach beyond what is here.
void MemoryHash::leave_out(const PageSet& pages) {
  for (const Region& region : regions_) {
    const std::uint64_t begin = region.first.value;
    const std::uint64_t end = begin + region.bytes.size() / page_bytes_;
    for (const PageRun& run : pages.runs()) {
      const std::uint64_t last = std::min(end, run.first.value + run.count);
      for (std::uint64_t page = std::max(begin, run.first.value); page < last; ++page)
        states_[region.index + (page - begin)] = State::left_out;
    }
  }
}

// --- finding pages ------------------------------------------------------------------------------

const MemoryHash::Region& MemoryHash::region_at(std::size_t index) const {
  const auto after = std::partition_point(regions_.begin(), regions_.end(),
                                          [index](const Region& r) { return r.index <= index; });
  return *(after - 1);
}

std::span<const std::byte> MemoryHash::page_at(std::size_t index) const {
  const Region& region = region_at(index);
  return region.bytes.subspan((index - region.index) * page_bytes_, page_bytes_);
}

PageNo MemoryHash::number_at(std::size_t index) const {
  const Region& region = region_at(index);
  return {region.first.value + (index - region.index)};
}

std::optional<std::size_t> MemoryHash::index_of(PageNo page) const {
  for (const Region& region : regions_)
    if (page >= region.first && page.value - region.first.value < region.bytes.size() / page_bytes_)
      return region.index + (page.value - region.first.value);
  return std::nullopt;
}

// --- comparing ----------------------------------------------------------------------------------

std::uint64_t MemoryHash::whole() const {
  std::vector<std::uint64_t> kept;
  kept.reserve(hashes_.size());
  for (std::size_t i = 0; i < hashes_.size(); ++i)
    if (states_[i] == State::hashed) kept.push_back(hashes_[i]);
  return hash_of(kept);
}

std::uint32_t MemoryHash::group_pages() const {
  const std::size_t each = (hashes_.size() + wire::kVerifyGroupsMax - 1) / wire::kVerifyGroupsMax;
  return static_cast<std::uint32_t>(std::max<std::size_t>(each, 1));
}

std::vector<std::uint64_t> MemoryHash::groups(std::uint32_t pages_each) const {
  std::vector<std::uint64_t> groups, hashes;
  for (std::size_t first = 0; first < hashes_.size(); first += pages_each) {
    hashes.clear();
    for (std::size_t i = first; i < std::min(first + pages_each, hashes_.size()); ++i)
      hashes.push_back(states_[i] == State::hashed ? hashes_[i] : 0);
    groups.push_back(hash_of(hashes));
  }
  return groups;
}

// A peer's question: what it asks of groups that are not here is not answered.
std::vector<wire::PageHash> MemoryHash::unlike(const wire::Verify& question) const {
  std::vector<wire::PageHash> pages;
  if (question.groups.empty() || question.group_pages == 0) return pages;
  const auto ours = groups(question.group_pages);
  for (std::size_t i = 0; i < std::min(ours.size(), question.groups.size()); ++i) {
    if (ours[i] == question.groups[i]) continue;
    const std::size_t first = i * question.group_pages;
    const std::size_t end = std::min<std::size_t>(first + question.group_pages, hashes_.size());
    if (pages.size() + (end - first) > wire::kVerifyPagesMax) break;
    for (std::size_t page = first; page < end; ++page)
      if (states_[page] == State::hashed) pages.push_back({number_at(page), hashes_[page]});
  }
  return pages;
}

std::vector<PageNo> MemoryHash::unlike(const std::vector<wire::PageHash>& answer) const {
  std::vector<PageNo> pages;
  for (const auto& theirs : answer) {
    const auto index = index_of(theirs.page);
    if (index && states_[*index] == State::hashed && hashes_[*index] != theirs.hash)
      pages.push_back(theirs.page);
  }
  return pages;
}

}  // namespace libft::session
