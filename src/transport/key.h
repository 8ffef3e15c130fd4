// SPDX-License-Identifier: LGPL-2.1-or-later
// The key that both hosts share and nobody else knows: 32 random bytes, kept in a file as one line
// of hexadecimal digits that only its owner can read. A value.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "libft/status.h"

namespace libft::transport {

struct Key {
  std::array<std::uint8_t, 32> bytes{};
  bool operator==(const Key&) const = default;
};

Result<Key> make_key();
std::string to_text(const Key& key);  // 64 digits; never log it.
Result<Key> key_from_text(std::string_view text);

// Refuses a file that others can read or write.
Result<Key> load_key(const std::string& path);

}  // namespace libft::transport
