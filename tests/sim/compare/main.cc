// SPDX-License-Identifier: LGPL-2.1-or-later
// ftcompare: seeds of the comparison's world, or all its mutants.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "sim/compare/pair_world.h"

namespace {

using namespace libft::sim;

void print(const CompareCounters& c) {
  fmt::print(
      "{} seeds: {} frames released by comparison, {} by {} checkpoints (wanted: {} content "
      "differs, "
      "{} not understood, {} no answer); {} promotions with {} connections mapped; {} connections "
      "answered\n",
      c.seeds, c.compared, c.by_checkpoint, c.checkpoints, c.wanted[1], c.wanted[2], c.wanted[3],
      c.promotions, c.promoted_mapped, c.answered);
}

// Nothing was shown by worlds in which what is to be shown did not happen.
bool says_something(const CompareCounters& c) {
  return c.compared > 0 && c.by_checkpoint > 0 && c.wanted[1] > 0 && c.wanted[3] > 0 &&
         c.promotions > 0 && c.promoted_mapped > 0 && c.answered > 0;
}

bool run_seeds(std::uint64_t first, std::uint64_t seeds) {
  CompareCounters total;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    const auto outcome = run_compare_seed(seed, CompareMutant::none);
    total.add(outcome.counters);
    if (outcome.violation.empty()) continue;
    fmt::print("seed {}: {}\n", seed, outcome.violation);
    return false;
  }
  print(total);
  if (seeds >= 100 && !says_something(total)) {
    fmt::print("the seeds did not show what they are for\n");
    return false;
  }
  return true;
}

bool catches(const CompareMutantInfo& info, std::uint64_t seeds) {
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const auto outcome = run_compare_seed(seed, info.mutant);
    if (outcome.violation.empty()) continue;
    fmt::print("{}: seed {}: {}\n", info.name, seed, outcome.violation);
    return true;
  }
  fmt::print("{}: NOT caught in {} seeds: {}\n", info.name, seeds, info.what);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Simulates a pair of guests whose output is compared");
  std::uint64_t seeds = 100, first = 1;
  bool mutants = false;
  std::string mutant;
  app.add_option("--seeds", seeds, "How many worlds");
  app.add_option("--first", first, "The first of them");
  app.add_flag("--mutants", mutants, "Each deliberate mistake must be noticed within the seeds");
  app.add_option("--mutant", mutant, "Only this one");
  CLI11_PARSE(app, argc, argv);
  if (!mutants && mutant.empty()) return run_seeds(first, seeds) ? 0 : 1;
  bool all = true;
  for (const auto& info : kCompareMutants)
    if (mutants || info.name == mutant) all = catches(info, seeds) && all;
  return all ? 0 : 1;
}
