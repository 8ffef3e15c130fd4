// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/checkpoint/reference_image.h"

#include <algorithm>
#include <new>

namespace libft::checkpoint {

ReferenceImage::ReferenceImage(std::uint64_t pages, std::size_t page_bytes, std::uint64_t bytes_max)
    : page_bytes_(page_bytes) {
  const std::uint64_t slots = std::min(pages, bytes_max / page_bytes);
  if (slots == 0) return;
  // Not zeroed: memory is taken from the system only as pages are really sent.
  image_.reset(new (std::nothrow) std::byte[slots * page_bytes]);
  if (!image_) return;
  held_.assign(pages, Held::nothing);
  if (slots == pages) {
    touched_page_.assign(pages, false);
    return;
  }
  slots_.resize(std::min<std::uint64_t>(slots, kNone - 1));
  slot_of_.assign(pages, kNone);
  clear();
}

void ReferenceImage::clear() {
  std::fill(held_.begin(), held_.end(), Held::nothing);
  if (whole()) return;
  std::fill(slot_of_.begin(), slot_of_.end(), kNone);
  std::fill(slots_.begin(), slots_.end(), Slot{});
  free_.clear();
  // Lowest last: memory that was touched before is used again first.
  for (std::size_t slot = slots_.size(); slot > 0; --slot) free_.push_back(std::uint32_t(slot - 1));
}

ReferenceImage::Place ReferenceImage::place(std::uint64_t page) {
  if (!image_) return {};
  if (whole()) return {slot_bytes(page), held_[page]};
  std::uint32_t slot = slot_of_[page];
  if (slot == kNone) slot = acquire();
  if (slot == kNone) return {nullptr, held_[page]};
  slot_of_[page] = slot;
  Slot& taken = slots_[slot];
  if (taken.wave != wave_) ++pinned_;
  taken = {std::uint32_t(page), true, wave_};
  return {slot_bytes(slot), held_[page]};
}

void ReferenceImage::settle(std::uint64_t page, Held held) {
  if (!image_) return;
  held_[page] = held;
  if (whole()) {
    if (held != Held::image || touched_page_[page]) return;
    touched_page_[page] = true;
    ++touched_;
    return;
  }
  const std::uint32_t slot = slot_of_[page];
  if (slot == kNone || held == Held::image) return;
  slot_of_[page] = kNone;
  slots_[slot].page = kNone;
  free_.push_back(slot);
}

std::uint32_t ReferenceImage::acquire() {
  // A slot that was freed in this wave may be written again at once: its page was settled.
  if (free_.empty()) return evict();
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  touched_ = std::max<std::uint64_t>(touched_, slot + 1);
  return slot;
}

std::uint32_t ReferenceImage::evict() {
  if (pinned_ >= slots_.size()) return kNone;
  // Twice round at most: the first round may only take away the second chances.
  for (std::size_t step = 0; step < 2 * slots_.size(); ++step) {
    const std::uint32_t slot = hand_;
    hand_ = (hand_ + 1) % std::uint32_t(slots_.size());
    Slot& candidate = slots_[slot];
    if (candidate.wave == wave_ || candidate.page == kNone) continue;
    if (candidate.recent) {
      candidate.recent = false;
      continue;
    }
    held_[candidate.page] = Held::nothing;
    slot_of_[candidate.page] = kNone;
    return slot;
  }
  return kNone;
}

std::uint64_t ReferenceImage::bytes() const {
  return touched_ * page_bytes_ + held_.size() + touched_page_.size() / 8 +
         slot_of_.size() * sizeof(std::uint32_t) + slots_.size() * (sizeof(Slot) + 4);
}

}  // namespace libft::checkpoint
