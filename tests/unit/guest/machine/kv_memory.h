// SPDX-License-Identifier: LGPL-2.1-or-later
// Where the key-value guest keeps a value: in its table, whose keys have 48 bytes. Test support.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <span>
#include <string>

namespace libft::test {

inline std::size_t kv_value_at(std::span<const std::byte> memory, const std::string& key,
                               const std::string& value) {
  const std::string_view all(reinterpret_cast<const char*>(memory.data()), memory.size());
  const std::string entry = key + std::string(48 - key.size(), '\0') + value;
  const std::size_t at = all.find(entry);
  REQUIRE(at != std::string_view::npos);
  return at + 48;
}

}  // namespace libft::test
