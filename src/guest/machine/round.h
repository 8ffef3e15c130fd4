// SPDX-License-Identifier: LGPL-2.1-or-later
// A Round is what harts on threads of their own did at once: how many instructions each executed,
// and in which order pages passed between them. It is all that is not determined by the state
// before it, so that it can be logged and done again. A value.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "clint.h"
#include "libft/status.h"

namespace libft::machine {

inline constexpr std::uint64_t kRoundStepsMax = 1 << 20;  // Of one hart.

// Instructions of one hart since the round began.
struct HartAt {
  std::uint32_t hart = 0;
  std::uint64_t steps = 0;
  bool operator==(const HartAt&) const = default;
};

// A page came to a hart that had waited for it, before its next instruction. What `after` names had
// come to pass, and those harts had no more than they left to it: nothing, or reading.
struct Transfer {
  std::uint64_t page = 0;
  bool write = false;
  HartAt to;
  std::vector<HartAt> after;
  bool operator==(const Transfer&) const = default;
};

struct Round {
  struct Part {
    bool executed = false;
    bool at_device = false;  // Its next instruction needs a device.
    std::uint64_t steps = 0;
    bool operator==(const Part&) const = default;
  };
  bool anew = false;  // It began without anybody having any page.
  std::array<Part, kHartsMax> parts{};
  std::vector<Transfer> transfers;  // In the order in which they happened.
  bool operator==(const Round&) const = default;
};

// About 8 bytes for a transfer, 5 for a round.
std::vector<std::byte> encode(const Round& round);
// Any bytes: what comes out can be executed without waiting for ever, on a machine of `harts` and
// `pages`.
Result<Round> decode_round(std::span<const std::byte> bytes, unsigned harts, std::uint64_t pages);

}  // namespace libft::machine
