// SPDX-License-Identifier: LGPL-2.1-or-later
// A generated program for the differential test: a flat image for 0x80000000 that begins in machine
// mode and wanders, by one seed, through every instruction of RV64IMAC, through registers of all
// modes, through Sv39 page tables that it changes, and through traps, which its handlers survive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace libft::test {

inline constexpr std::uint64_t kProgramBase = 0x80000000;

// It ends by writing to the test device at 0x100000, or never: a program that jumped into the
// middle of itself may go round. Whoever runs it counts.
std::vector<std::byte> generate_program(std::uint64_t seed, unsigned pieces);

// Whether it jumped away from its code: into its data, where anything may stand, or to where QEMU
// has devices that the machine has not.
bool left_program(std::uint64_t pc);

}  // namespace libft::test
