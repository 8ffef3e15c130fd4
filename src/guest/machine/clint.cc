// SPDX-License-Identifier: LGPL-2.1-or-later
#include "clint.h"

#include <cstring>

namespace libft::machine {

std::uint64_t Clint::load(std::uint64_t offset, unsigned size) {
  std::uint64_t value = 0;
  if (offset >= kTime && offset < kTime + 8) {
    value = time_() >> (8 * (offset - kTime));
  } else if (offset >= kCompare && offset < kCompare + 8 * kHartsMax) {
    value = compare_[(offset - kCompare) / 8] >> (8 * (offset % 8));
  } else if (offset < 4 * kHartsMax) {
    value = software_[offset / 4];
  }
  return size == 8 ? value : value & ((std::uint64_t{1} << (8 * size)) - 1);
}

void Clint::store(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset >= kCompare && offset < kCompare + 8 * kHartsMax) {
    std::uint64_t& compare = compare_[(offset - kCompare) / 8];
    std::memcpy(reinterpret_cast<std::byte*>(&compare) + offset % 8, &value, size);
  } else if (offset < 4 * kHartsMax) {
    software_[offset / 4] = value & 1;
  }
}

}  // namespace libft::machine
