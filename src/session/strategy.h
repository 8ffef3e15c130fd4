// SPDX-License-Identifier: LGPL-2.1-or-later
// Which strategies a guest can have, and what one is told whose guest cannot.
#pragma once

#include <fmt/format.h>

#include "libft/session.h"

namespace libft::session {

// Epochs are logs.
inline bool is_logged(Strategy strategy) {
  return strategy != Strategy::checkpoint && strategy != Strategy::compare;
}
// The backup executes them as they come.
inline bool is_followed(Strategy strategy) {
  return strategy == Strategy::replay || strategy == Strategy::lockstep;
}

// What a backup must know for it.
std::uint64_t features_of(Strategy strategy);
// What those features that a primary has chosen come to.
Strategy strategy_of(std::uint64_t features);

// Of a primary. Whether its standby can run ahead of the image, the backup finds out.
inline Status missing_for_compare(const std::string& driver) {
  return Status(
      Code::unsupported,
      fmt::format("the output of this {} guest cannot be compared: its gate lets no single "
                  "frame out; use the strategy checkpoint, or a QEMU guest whose frames "
                  "pass through libft",
                  driver));
}

inline Status missing_for_replay(const std::string& driver) {
  return Status(
      Code::unsupported,
      fmt::format("a {} guest cannot be replayed: nobody can stop its processors at an exact "
                  "instruction, dictate the time it reads, or hold an interrupt back to "
                  "a position; use the strategy checkpoint, or a machine: guest",
                  driver));
}

}  // namespace libft::session
