// SPDX-License-Identifier: LGPL-2.1-or-later
// The hash by which `verify` compares two replicas: XXH3-64 over all memory, region after region.
#pragma once

#include <cstdint>

#include "base/checksum.h"
#include "libft/guest.h"

namespace libft::session {

inline std::uint64_t hash_of_memory(const GuestInfo& info) {
  base::RunningChecksum sum;
  for (const auto& region : info.memory) sum.add(region.bytes);
  return sum.value();
}

}  // namespace libft::session
