// SPDX-License-Identifier: LGPL-2.1-or-later
// How structs cross the border between binaries of different ages: struct_size says how much of one
// the other side knows. A newer caller's unknown fields must be zero; an older caller's missing
// ones are. Pure; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "outcome.h"

namespace libft::capi {

// Of the first release, which every caller has: nothing smaller is taken.
constexpr std::uint32_t kSettingsBytesMin = offsetof(ft_settings, tap);
constexpr std::uint32_t kGuestInfoBytesMin = offsetof(ft_guest_info, tracking_stays);

// Copies what a caller gave. `into` is zero where the caller's struct ends; its struct_size is the
// caller's.
template <class Struct>
Outcome take_struct(const Struct* given, std::size_t bytes_min, Struct& into) {
  if (given == nullptr) return {FT_E_INVALID, "the struct is null"};
  const std::size_t size = given->struct_size;
  if (size < bytes_min)
    return {FT_E_INVALID, "the struct_size is too small", "set it to sizeof the struct"};
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  if (size > sizeof into &&
      std::any_of(bytes + sizeof into, bytes + size, [](unsigned char byte) { return byte != 0; }))
    return {FT_E_UNSUPPORTED, "the struct has fields that this libft does not know",
            "leave them zero, or install the libft that you built for"};
  std::memcpy(&into, given, std::min(size, sizeof into));
  return {};
}

template <class Struct>
Outcome check_out(const Struct* into) {
  if (into == nullptr) return {FT_E_INVALID, "there is no place for the answer"};
  if (into->struct_size < sizeof into->struct_size)
    return {FT_E_INVALID, "the struct_size is not set", "set it to sizeof the struct"};
  return {};
}

// Stores as much of `full` as the caller knows, and keeps the caller's struct_size.
template <class Struct>
void give_struct(const Struct& full, Struct& into) {
  const std::uint32_t size = into.struct_size;
  std::memset(static_cast<void*>(&into), 0, size);
  std::memcpy(static_cast<void*>(&into), &full, std::min<std::size_t>(size, sizeof full));
  into.struct_size = size;
}

}  // namespace libft::capi
