// SPDX-License-Identifier: LGPL-2.1-or-later
// One core with memory and nothing else, for the interpreter's unit tests.
#pragma once

#include <cstring>
#include <initializer_list>

#include "guest/machine/core.h"

namespace libft::test {

inline constexpr std::uint64_t kBase = 0x80000000;

struct SmallMachine {
  machine::Memory memory{kBase, 1 << 20};
  machine::Bus bus;
  machine::Core core{memory, bus, {}, false};
  std::uint64_t position = 0;

  SmallMachine() { core.hart.pc = kBase; }

  void program(std::initializer_list<std::uint32_t> words, std::uint64_t at = kBase) {
    for (const std::uint32_t word : words) {
      memory.write(at, std::as_bytes(std::span(&word, 1)));
      at += 4;
    }
  }
  machine::Run run(std::uint64_t steps) {
    const machine::Run done = core.run(steps, position);
    position += done.steps;
    return done;
  }
  std::uint64_t x(unsigned number) const { return core.hart.x[number]; }
  std::uint64_t load64(std::uint64_t at) const {
    std::uint64_t value = 0;
    std::memcpy(&value, memory.at(at), sizeof value);
    return value;
  }
  void store64(std::uint64_t at, std::uint64_t value) {
    memory.write(at, std::as_bytes(std::span(&value, 1)));
  }
};

}  // namespace libft::test
