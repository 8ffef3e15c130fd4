// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fmt/format.h>

#include "libft/session.h"

namespace libft {

std::string_view to_string(Strategy strategy) {
  switch (strategy) {
    case Strategy::checkpoint: return "checkpoint";
    case Strategy::replay: return "replay";
    case Strategy::lockstep: return "lockstep";
  }
  return "unknown";
}

Result<Strategy> strategy_from(std::string_view name) {
  for (const Strategy strategy : {Strategy::checkpoint, Strategy::replay, Strategy::lockstep})
    if (name == to_string(strategy)) return strategy;
  return failure(Code::invalid,
                 fmt::format("no strategy is called '{}': there are checkpoint, replay and lockstep", name));
}

}  // namespace libft
