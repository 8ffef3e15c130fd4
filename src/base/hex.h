// SPDX-License-Identifier: LGPL-2.1-or-later
// Bytes as hexadecimal digits and back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace libft::base {

std::string to_hex(std::span<const std::uint8_t> bytes);
std::string to_hex(std::span<const std::byte> bytes);

// False, with `bytes` in an unspecified state, unless `text` is exactly their digits.
bool from_hex(std::string_view text, std::span<std::uint8_t> bytes);
// As many as there are; nothing when `text` is no bytes' digits.
std::optional<std::vector<std::byte>> from_hex(std::string_view text);

}  // namespace libft::base
