// SPDX-License-Identifier: LGPL-2.1-or-later
// What ftd does when the process that served a guest has ended. It decides nothing about who owns
// the guest: whatever it starts reads the arbiter's record first, and refuses where it must. So a
// wrong guess here costs time. Pure; any thread.
#pragma once

#include <optional>
#include <string>

#include "ending.h"
#include "libft/types.h"
#include "protection.h"

namespace libft::ftd {

struct Situation {
  Start was = Start::nothing;  // As what the process was started.
  bool was_primary = false;    // Its last known role.
  bool has_peer = false;       // Somebody is named whose backup this host could be.
  unsigned failures = 0;       // In a row, before this one.
};

struct Next {
  Start start = Start::nothing;
  Nanos delay{};
  bool resume = false;  // A guest that stands still was stopped by the death of its ftctl.
  std::string note;
};

// `ending`: nothing when the process was killed.
Next next_after(const Situation& situation, const std::optional<ftctl::Ending>& ending);

}  // namespace libft::ftd
