// SPDX-License-Identifier: LGPL-2.1-or-later
// Bytes as hexadecimal digits and back.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace libft::base {

std::string to_hex(std::span<const std::uint8_t> bytes);

// False, with `bytes` in an unspecified state, unless `text` is exactly their digits.
bool from_hex(std::string_view text, std::span<std::uint8_t> bytes);

}  // namespace libft::base
