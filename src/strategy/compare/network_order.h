// SPDX-License-Identifier: LGPL-2.1-or-later
// Integers as networks order them, and TCP's sequence numbers, which count modulo 2^32. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace libft::compare {

inline std::uint16_t load_be16(const std::byte* from) {
  return static_cast<std::uint16_t>(unsigned(from[0]) << 8 | unsigned(from[1]));
}
inline std::uint32_t load_be32(const std::byte* from) {
  return std::uint32_t(load_be16(from)) << 16 | load_be16(from + 2);
}
inline void store_be16(std::byte* to, std::uint16_t value) {
  to[0] = std::byte(value >> 8);
  to[1] = std::byte(value & 0xff);
}
inline void store_be32(std::byte* to, std::uint32_t value) {
  store_be16(to, static_cast<std::uint16_t>(value >> 16));
  store_be16(to + 2, static_cast<std::uint16_t>(value & 0xffff));
}

// How far `a` is ahead of `b`; negative: behind. (RFC 1982; RFC 9293, section 3.4.)
inline std::int32_t ahead(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::int32_t>(a - b);
}

// The later of the two.
inline void advance(std::optional<std::uint32_t>& newest, std::uint32_t to) {
  if (!newest || ahead(to, *newest) > 0) newest = to;
}

}  // namespace libft::compare
