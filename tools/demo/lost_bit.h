// SPDX-License-Identifier: LGPL-2.1-or-later
// A memory that loses a bit: one bit of a guest on libft's machine is flipped from outside, through
// /proc/PID/mem, in a page that the guest writes to all the time, so that it is likely to matter.
// Any thread; takes some hundred milliseconds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <random>
#include <string>

#include "libft/status.h"
#include "libft/types.h"

namespace libft::demo {

struct LostBit {
  Time at;
  std::uint64_t address = 0;  // As the guest sees it.
  unsigned bit = 0;
  std::size_t pages = 0;  // That were written to all the time: one of these it was.
};
std::string describe(const LostBit& lost);

// Of the Linux, with so much memory, that process `pid` executes.
Result<LostBit> lose_a_bit(pid_t pid, std::uint64_t memory_bytes, std::mt19937_64& random);

}  // namespace libft::demo
