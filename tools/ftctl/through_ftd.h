// SPDX-License-Identifier: LGPL-2.1-or-later
// What ftctl leaves to ftd where that runs. Main thread.
#pragma once

#include <optional>
#include <vector>

#include "cli.h"
#include "libft/types.h"

namespace libft::ftctl {

struct Wanted {
  Settings settings;
  GuestId id;
};

// `protect` and `standby`: the exit code when ftd keeps the guests up from now on, or would not;
// nothing when they are to be served by this process.
std::optional<int> hand_to_ftd(const Arguments& arguments, const std::vector<Wanted>& guests);

}  // namespace libft::ftctl
