// SPDX-License-Identifier: LGPL-2.1-or-later
// Writes a flattened device tree (Devicetree Specification 0.4, chapter 5). A value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace libft::machine {

class FdtWriter {
 public:
  void begin(std::string_view node);
  void end();
  void flag(std::string_view name) { property(name, {}); }
  void text(std::string_view name, std::string_view value);
  void texts(std::string_view name, std::initializer_list<std::string_view> values);
  void cells(std::string_view name, std::span<const std::uint32_t> values);
  void cells(std::string_view name, std::initializer_list<std::uint32_t> values) {
    cells(name, std::span(values.begin(), values.size()));
  }
  // REQUIRES: every begin() had its end().
  std::vector<std::byte> finish();

 private:
  void property(std::string_view name, std::span<const std::byte> value);
  void cell(std::uint32_t value);
  void pad();

  std::vector<std::byte> structure_;
  std::string strings_;
  int depth_ = 0;
};

}  // namespace libft::machine
