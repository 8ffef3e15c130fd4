// SPDX-License-Identifier: LGPL-2.1-or-later
// How much memory a primary may spend on the images that pages are delta-coded against. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace libft::session {

// `wished` as SessionOptions::reference_bytes_max has it; `available`: of this host, 0 when that
// cannot be told. A wish is a wish; the default leaves half, because a host that runs out of memory
// may kill the very guest that is to be protected.
inline std::uint64_t reference_limit(std::uint64_t wished, std::uint64_t guest,
                                     std::uint64_t available) {
  constexpr std::uint64_t kDefault = ~0ull;
  if (wished != kDefault) return wished;
  return available == 0 ? guest : std::min(guest, available / 2);
}

}  // namespace libft::session
