// SPDX-License-Identifier: LGPL-2.1-or-later
// Where two executions of one log come apart, to the position: by halving, from a state in which
// they were equal. Executions that can be begun again find it; what happened once (a bit that a
// memory lost) cannot be found so, and is told apart by that. One thread.
#pragma once

#include <functional>
#include <optional>
#include <span>

#include "libft/deterministic_guest.h"
#include "wire/log.h"

namespace libft::replay {

struct Execution {
  DeterministicGuest& guest;
  // Brings the guest back to the state in which the log begins; it stands still there.
  std::function<Status()> restart;
};

struct Difference {
  Position at;  // Before the instruction at it both are equal, after it they are not.
  std::uint64_t one = 0, other = 0;  // Hashes of the states after it.
};

// Nothing: both executions end in the same state. REQUIRES: the logs are consecutive.
Result<std::optional<Difference>> first_difference(Execution one, Execution other,
                                                   std::span<const wire::LogEpoch> logs);

}  // namespace libft::replay
