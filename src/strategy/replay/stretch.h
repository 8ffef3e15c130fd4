// SPDX-License-Identifier: LGPL-2.1-or-later
// Executes to a position in stretches, between which somebody may call it off. Pure.
#pragma once

#include <algorithm>
#include <atomic>

#include "libft/deterministic_guest.h"

namespace libft::replay {

constexpr std::uint64_t kStretch = 10'000'000;  // Between two looks at `interrupted`: some 40 ms.

// `here` follows the guest. cancelled: interrupted.
inline Status run_in_stretches(DeterministicGuest& guest, Position& here, Position until,
                               const std::atomic<bool>& interrupted) {
  while (here < until) {
    if (interrupted) return Status(Code::cancelled, "the execution was called off");
    const Position stop{std::min(until.value, here.value + kStretch)};
    FT_TRY(guest.run_until(stop));
    here = stop;
  }
  return {};
}

}  // namespace libft::replay
