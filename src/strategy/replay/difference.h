// SPDX-License-Identifier: LGPL-2.1-or-later
// Where two executions of one log come apart, to the position: by halving, from a state in which
// they were equal. Executions that can be begun again find it; what happened once (a bit that a
// memory lost) cannot be found so, and is told apart by that. One thread.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <span>

#include "libft/deterministic_guest.h"
#include "wire/log.h"

namespace libft::replay {

struct Execution {
  DeterministicGuest& guest;
  // Brings the guest back to where the log begins, or to where keep() was called last; it stands
  // still there.
  std::function<Status()> restart;
  // Of the state it is in. None: the guest's own.
  std::function<Result<std::uint64_t>()> hash{};
};

struct Difference {
  Position at;     // Before the instruction at it both are equal,
  Position until;  // and here not: the next position, or the end of a round of harts at once.
  std::uint64_t one = 0, other = 0;  // Hashes of the states there.
};

struct SearchOptions {
  // Both stand where they are equal: restart() may go here from now on. None: it goes to the begin.
  std::function<Status()> keep{};
  const std::atomic<bool>* interrupted = nullptr;
};

// Nothing: both executions end in the same state. REQUIRES: the logs are consecutive.
Result<std::optional<Difference>> first_difference(Execution one, Execution other,
                                                   std::span<const wire::LogEpoch> logs,
                                                   const SearchOptions& options = {});

}  // namespace libft::replay
