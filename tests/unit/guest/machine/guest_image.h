// SPDX-License-Identifier: LGPL-2.1-or-later
// The bare-metal guests of tests/guests/machine, as options for a machine.
#pragma once

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "guest/machine/options.h"

namespace libft::test {

inline std::vector<std::byte> read_bytes(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  REQUIRE_MESSAGE(in, file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

inline machine::MachineOptions bare_metal(const std::string& name, unsigned harts = 1) {
  machine::MachineOptions options;
  options.memory_bytes = 8 << 20;
  options.harts = harts;
  options.kernel = read_bytes(std::string(LIBFT_MACHINE_GUESTS) + "/" + name + ".bin");
  return options;
}

}  // namespace libft::test
