// SPDX-License-Identifier: LGPL-2.1-or-later
// The Internet checksum of a header of which one field changes: updated from what changed, without
// the rest of the packet (RFC 1624, equation 3). So a checksum that was wrong stays wrong.
#pragma once

#include "strategy/compare/network_order.h"

namespace libft::compare {

inline std::uint16_t updated_checksum(std::uint16_t checksum, std::uint16_t before,
                                      std::uint16_t after) {
  std::uint32_t sum = (~checksum & 0xffffu) + (~before & 0xffffu) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum & 0xffff);
}

// Writes `value` at `at` of a header, and the checksum at `checksum_at`. A TCP option may begin at
// an odd offset: then its bytes are parts of three of the words that are summed. REQUIRES: those
// words lie in the header, whose first byte is the first of the sum; they are not the checksum's
// own.
inline void replace_be32(std::byte* header, std::size_t at, std::uint32_t value,
                         std::size_t checksum_at) {
  const std::size_t first = at & ~std::size_t{1};
  const std::size_t words = at == first ? 2 : 3;
  std::uint16_t before[3];
  for (std::size_t n = 0; n < words; ++n) before[n] = load_be16(header + first + 2 * n);
  store_be32(header + at, value);
  std::uint16_t checksum = load_be16(header + checksum_at);
  for (std::size_t n = 0; n < words; ++n)
    checksum = updated_checksum(checksum, before[n], load_be16(header + first + 2 * n));
  store_be16(header + checksum_at, checksum);
}

}  // namespace libft::compare
