// SPDX-License-Identifier: LGPL-2.1-or-later
// The world of one seed: clients, a network that loses, doubles and reorders, two hosts that run
// the same guest with chances of their own, the comparator between them, checkpoints, and the
// primary's death. The oracle: what is released, the backup has said or holds; and every client is
// answered to the end by one guest. One thread, virtual time.
#pragma once

#include <map>
#include <string>

#include "sim/compare/model_guest.h"
#include "sim/compare/mutants.h"
#include "strategy/compare/comparator.h"
#include "strategy/compare/rewriter.h"

namespace libft::sim {

struct CompareCounters {
  std::uint64_t seeds = 0, compared = 0, by_checkpoint = 0, checkpoints = 0, promotions = 0;
  std::uint64_t promoted_mapped = 0;  // Connections that went on with other numbers.
  std::uint64_t answered = 0;         // Connections that were answered to the end.
  std::uint64_t wanted[5] = {};       // Checkpoints, by the comparator's reason.
  void add(const CompareCounters& other);
};

struct CompareOutcome {
  CompareCounters counters;
  std::string violation;  // The first; empty: none.
};

CompareOutcome run_compare_seed(std::uint64_t seed, CompareMutant mutant);

}  // namespace libft::sim
