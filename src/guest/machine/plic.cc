// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plic.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t kPending = 0x1000, kEnable = 0x2000, kEnableStride = 0x80,
                        kContext = 0x200000, kContextStride = 0x1000;
constexpr std::uint32_t kPriorityBits = 7;

}  // namespace

unsigned Plic::best(unsigned context, std::uint32_t threshold) const {
  unsigned found = 0;
  const std::uint32_t pending = levels_ & ~served_ & enabled_[context];
  for (unsigned source = 1; source < kSources; ++source) {
    if ((pending >> source & 1) == 0 || priorities_[source] <= threshold) continue;
    found = source;
    threshold = priorities_[source];  // Of equals, the lowest number.
  }
  return found;
}

std::uint32_t Plic::claim(unsigned context) {
  const unsigned source = best(context, 0);
  if (source != 0) served_ |= 1u << source;
  return source;
}

std::uint64_t Plic::load(std::uint64_t offset, unsigned) {
  if (offset < 4 * kSources) return priorities_[offset / 4];
  if (offset == kPending) return levels_ & ~served_;
  if (offset >= kEnable && offset < kEnable + kContexts * kEnableStride) {
    const bool first = (offset - kEnable) % kEnableStride < 4;
    return first ? enabled_[(offset - kEnable) / kEnableStride] : 0;
  }
  if (offset >= kContext && offset < kContext + kContexts * kContextStride) {
    const auto context = static_cast<unsigned>((offset - kContext) / kContextStride);
    if (offset % kContextStride == 0) return thresholds_[context];
    if (offset % kContextStride == 4) return claim(context);
  }
  return 0;
}

void Plic::store(std::uint64_t offset, unsigned, std::uint64_t value) {
  const auto word = static_cast<std::uint32_t>(value);
  if (offset < 4 * kSources) {
    priorities_[offset / 4] = word & kPriorityBits;
  } else if (offset >= kEnable && offset < kEnable + kContexts * kEnableStride) {
    if ((offset - kEnable) % kEnableStride < 4)
      enabled_[(offset - kEnable) / kEnableStride] = word & ~1u;
  } else if (offset >= kContext && offset < kContext + kContexts * kContextStride) {
    const auto context = static_cast<unsigned>((offset - kContext) / kContextStride);
    if (offset % kContextStride == 0) thresholds_[context] = word & kPriorityBits;
    if (offset % kContextStride == 4 && word < kSources) served_ &= ~(1u << word);
  }
}

}  // namespace libft::machine
