// SPDX-License-Identifier: LGPL-2.1-or-later
// From bits to operations: RV64IMAC, Zicsr, Zifencei and the privileged instructions
// (The RISC-V Instruction Set Manual, volume I 20191213, volume II 20211203). Pure functions.
#pragma once

#include <cstdint>

#include "op.h"

namespace libft::machine {

struct Instruction {
  Operation operation = Operation::illegal;
  std::uint8_t length = 4;
  std::uint8_t rd = 0, rs1 = 0, rs2 = 0, function = 0;
  std::int32_t imm = 0;  // As in the specification: a branch's is its distance in bytes.
};

inline constexpr bool is_compressed(std::uint32_t bits) { return (bits & 3) != 3; }

// `bits` has the instruction in its low 16 or 32 bits. What is not understood is `illegal`.
// Branches come out as `far`.
Instruction decode(std::uint32_t bits);

// The 32-bit instruction that the compressed one stands for; 0, which is illegal, if none.
std::uint32_t expand_compressed(std::uint16_t bits);

}  // namespace libft::machine
