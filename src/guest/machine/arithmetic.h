// SPDX-License-Identifier: LGPL-2.1-or-later
// The arithmetic of RV64IM where it is not C++'s: division by zero and overflow have results
// (volume I, 7.2), shifts take the low bits. Pure functions.
#pragma once

#include <cstdint>

namespace libft::machine {

constexpr std::uint64_t sign_extend(std::uint64_t value) {
  return static_cast<std::uint64_t>(
      std::int64_t{static_cast<std::int32_t>(static_cast<std::uint32_t>(value))});
}

constexpr std::uint64_t shift_right_signed(std::uint64_t value, unsigned count) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(value) >> (count & 63));
}

constexpr std::uint64_t shift_right_signed32(std::uint64_t value, unsigned count) {
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(sign_extend(value)) >> (count & 31));
}

constexpr std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(a) * b >> 64);
}

constexpr std::uint64_t multiply_high_signed(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t a_sign = a >> 63 != 0 ? b : 0, b_sign = b >> 63 != 0 ? a : 0;
  return multiply_high(a, b) - a_sign - b_sign;
}

constexpr std::uint64_t multiply_high_mixed(std::uint64_t a, std::uint64_t b) {
  return multiply_high(a, b) - (a >> 63 != 0 ? b : 0);
}

constexpr std::uint64_t divide(std::uint64_t a, std::uint64_t b) {
  return b == 0 ? ~std::uint64_t{0} : a / b;
}

constexpr std::uint64_t remainder(std::uint64_t a, std::uint64_t b) { return b == 0 ? a : a % b; }

constexpr std::uint64_t divide_signed(std::uint64_t a, std::uint64_t b) {
  if (b == 0) return ~std::uint64_t{0};
  if (b == ~std::uint64_t{0}) return 0 - a;  // Also for the most negative number.
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(a) / static_cast<std::int64_t>(b));
}

constexpr std::uint64_t remainder_signed(std::uint64_t a, std::uint64_t b) {
  if (b == 0) return a;
  if (b == ~std::uint64_t{0}) return 0;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(a) % static_cast<std::int64_t>(b));
}

constexpr std::uint64_t divide_signed32(std::uint64_t a, std::uint64_t b) {
  return sign_extend(divide_signed(sign_extend(a), sign_extend(b)));
}

constexpr std::uint64_t divide32(std::uint64_t a, std::uint64_t b) {
  const auto x = static_cast<std::uint32_t>(a), y = static_cast<std::uint32_t>(b);
  return y == 0 ? ~std::uint64_t{0} : sign_extend(x / y);
}

constexpr std::uint64_t remainder32(std::uint64_t a, std::uint64_t b) {
  const auto x = static_cast<std::uint32_t>(a), y = static_cast<std::uint32_t>(b);
  return y == 0 ? sign_extend(x) : sign_extend(x % y);
}

}  // namespace libft::machine
