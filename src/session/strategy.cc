// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/strategy.h"

#include <fmt/format.h>

#include "wire/message.h"

namespace libft {

std::string_view to_string(Strategy strategy) {
  switch (strategy) {
    case Strategy::checkpoint: return "checkpoint";
    case Strategy::replay: return "replay";
    case Strategy::lockstep: return "lockstep";
    case Strategy::hybrid: return "hybrid";
    case Strategy::compare: return "compare";
  }
  return "unknown";
}

Result<Strategy> strategy_from(std::string_view name) {
  for (const Strategy strategy : {Strategy::checkpoint, Strategy::replay, Strategy::lockstep,
                                  Strategy::hybrid, Strategy::compare})
    if (name == to_string(strategy)) return strategy;
  return failure(Code::invalid,
                 fmt::format("no strategy is called '{}': there are checkpoint, replay, "
                             "lockstep, hybrid and compare",
                             name));
}

namespace session {

using namespace wire::feature;

std::uint64_t features_of(Strategy strategy) {
  switch (strategy) {
    case Strategy::checkpoint: return 0;
    case Strategy::replay: return logs;
    case Strategy::lockstep: return logs | executed;
    case Strategy::hybrid: return logs | rebases;
    case Strategy::compare: return compares;
  }
  return 0;
}

Strategy strategy_of(std::uint64_t features) {
  if ((features & logs) == 0)
    return (features & compares) != 0 ? Strategy::compare : Strategy::checkpoint;
  if ((features & executed) != 0) return Strategy::lockstep;
  return (features & rebases) != 0 ? Strategy::hybrid : Strategy::replay;
}

}  // namespace session
}  // namespace libft
