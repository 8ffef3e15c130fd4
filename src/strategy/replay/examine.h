// SPDX-License-Identifier: LGPL-2.1-or-later
// What made a follower's execution another one than the primary's: the logs since both were equal
// are executed again, in private. An execution that erred once is told from one that always comes
// to the same; where a byte of memory was lost, it is found, and the first instruction that it
// misled. Takes seconds: for a thread of its own.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "strategy/replay/landmark.h"

namespace libft::replay {

struct Examination {
  enum class Verdict {
    erred_here,   // Executed again, the log leads to the primary's states: this host erred, once.
    erred_there,  // It leads to the same states as before: the primary erred, or the log lacks
                  // something, or the two hosts execute differently.
    unsteady,     // It leads to a third state.
  };
  Verdict verdict = Verdict::erred_here;
  Position from, until;  // Between the two they came apart.
  // Of erred_here: bytes that differed at the end, and the lost ones that explain them, if any do.
  std::uint64_t bytes_differ = 0;
  std::vector<OddByte> lost;
  // Whether they changed the outcome of any instruction, and of which first; not told where harts
  // executed at once.
  bool misled = false;
  std::optional<Position> at;
};

// REQUIRES: came_apart(). cancelled: interrupted.
Result<Examination> examine(Landmark& landmark, const std::atomic<bool>& interrupted);

// For people, in one line; `info` says how the regions are called.
std::string describe(const Examination& found, const GuestInfo& info);

}  // namespace libft::replay
