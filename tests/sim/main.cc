// SPDX-License-Identifier: LGPL-2.1-or-later
// ftsim: runs seeds of the simulation, or one mutant, or a scripted scenario.
#include <fmt/format.h>

#include <atomic>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <thread>

#include "sim/scenario.h"
#include "sim/world.h"

namespace {

using namespace libft::sim;

struct Command {
  std::uint64_t seeds = 100, first = 1;
  std::optional<std::uint64_t> seed;
  unsigned jobs = 1;
  std::string json, mutant, scenario;
  bool list_mutants = false, all_mutants = false, verbose = false, repeat = false, update = false;
};

std::string json_of(const Counters& c) {
  return fmt::format(
      "{{\"seeds\":{},\"faults\":{},\"failovers\":{},\"switchovers\":{},\"solo_swaps\":{},"
      "\"unknowns\":{},\"reprotects\":{},\"resumes\":{},\"partial_epochs\":{},\"epochs\":{},"
      "\"logs\":{},\"rebases\":{},\"changes\":{},\"holds\":{},\"flips\":{},\"outvoted\":{},"
      "\"replaced\":{},"
      "\"majority_erred\":{},\"delayed\":{},\"shortened\":{},"
      "\"rests\":{},\"answered\":{},\"follows\":{},\"compared\":{},"
      "\"ended\":{},\"lost\":{},\"violations\":{}}}",
      c.seeds, c.faults, c.failovers, c.switchovers, c.solo_swaps, c.unknowns, c.reprotects,
      c.resumes, c.partial_epochs, c.epochs, c.logs, c.rebases, c.changes, c.holds, c.flips,
      c.outvoted, c.replaced, c.majority_erred, c.delayed, c.shortened, c.rests, c.answered,
      c.follows, c.compared, c.ended, c.lost, c.violations);
}

// The seed again, now with texts, and the last of them.
void explain(std::uint64_t seed, Mutant mutant) {
  const Outcome outcome = run_seed({.seed = seed, .mutant = mutant, .texts = true});
  fmt::print("seed {}: {} violation(s); the last steps:\n", seed, outcome.violations.size());
  const std::size_t from = outcome.trace.size() > 40 ? outcome.trace.size() - 40 : 0;
  for (std::size_t n = from; n < outcome.trace.size(); ++n) fmt::print("  {}\n", outcome.trace[n]);
  for (const auto& violation : outcome.violations)
    fmt::print("seed {}: rule {}: {}\n", seed, violation.rule, violation.text);
}

struct Found {
  std::uint64_t seed;
  Violation violation;
};

// Runs the seeds on `jobs` threads, each with worlds of its own; stops after `stop_after` failures.
Counters run_seeds(const Command& command, Mutant mutant, std::size_t stop_after,
                   std::vector<Found>& found, std::uint64_t& hash, std::string_view rules = {}) {
  Counters total;
  std::atomic<std::uint64_t> next{0};
  std::mutex mutex;
  const auto work = [&] {
    for (;;) {
      const std::uint64_t n = next++;
      if (n >= command.seeds) return;
      const Outcome outcome = run_seed({.seed = command.first + n, .mutant = mutant});
      const std::lock_guard lock(mutex);
      total.add(outcome.counters);
      hash ^= outcome.trace_hash * (2 * n + 1);
      if (!outcome.violations.empty() &&
          (rules.empty() || rules.find(outcome.violations[0].rule) != rules.npos))
        found.push_back({command.first + n, outcome.violations[0]});
      if (found.size() >= stop_after) next = command.seeds;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned n = 1; n < command.jobs; ++n) threads.emplace_back(work);
  work();
  for (auto& thread : threads) thread.join();
  return total;
}

// Until a rule that the mutant breaks has caught it: that it gets stuck as well proves nothing.
int run_mutant(const Command& command, const MutantInfo& mutant) {
  std::vector<Found> found;
  std::uint64_t hash = 0;
  const Counters total = run_seeds(command, mutant.mutant, 1, found, hash, mutant.rules);
  if (found.empty())
    fmt::print("{:<28} NOT CAUGHT by {} in {} seeds: {}\n", mutant.name, mutant.rules, total.seeds,
               mutant.what);
  else
    fmt::print("{:<28} caught by rule {} at seed {}\n", mutant.name, found.front().violation.rule,
               found.front().seed);
  std::fflush(stdout);
  return found.empty() ? 1 : 0;
}

int run_all_mutants(const Command& command) {
  int failed = 0;
  for (const auto& mutant : mutants()) failed += run_mutant(command, mutant);
  return failed == 0 ? 0 : 1;
}

int run_repeated(const Command& command) {
  for (std::uint64_t n = 0; n < command.seeds; ++n) {
    const WorldOptions options{.seed = command.first + n};
    WorldOptions spoken = options;
    spoken.texts = true;
    const auto once = run_seed(options).trace_hash, again = run_seed(spoken).trace_hash;
    if (once == again) continue;
    fmt::print("seed {}: two runs differ ({:016x}, {:016x})\n", options.seed, once, again);
    return 1;
  }
  fmt::print("{} seeds run twice: the same traces\n", command.seeds);
  return 0;
}

int run_normal(const Command& command, Mutant mutant) {
  std::vector<Found> found;
  std::uint64_t hash = 0;
  const Counters total = run_seeds(command, mutant, 10, found, hash);
  const std::string json = json_of(total);
  fmt::print("{}\n", json);
  if (!command.json.empty()) std::ofstream(command.json) << json << "\n";
  for (const Found& it : found)
    fmt::print("violation: seed {}: rule {}: {}\n", it.seed, it.violation.rule, it.violation.text);
  if (!found.empty()) explain(found.front().seed, mutant);
  const bool idle =
      command.seeds >= 10000 &&
      (total.faults == 0 || total.failovers == 0 || total.solo_swaps == 0 || total.unknowns == 0 ||
       total.reprotects == 0 || total.partial_epochs == 0 || total.logs == 0 ||
       total.rebases == 0 || total.changes == 0 || total.holds == 0 || total.flips == 0 ||
       total.outvoted == 0 || total.replaced == 0 || total.delayed == 0 || total.shortened == 0 ||
       total.rests == 0 || total.answered == 0 || total.follows == 0 || total.compared == 0);
  if (idle) fmt::print("a counter is zero: the simulation did not try what it should\n");
  return found.empty() && !idle ? 0 : 1;
}

int run_verbose(std::uint64_t seed, Mutant mutant) {
  const Outcome outcome =
      run_seed({.seed = seed, .mutant = mutant, .texts = true, .live = [](const std::string& line) {
                  fmt::print("{}\n", line);
                }});
  fmt::print("{} trace {:016x}\n", json_of(outcome.counters), outcome.trace_hash);
  return outcome.violations.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Command command;
  CLI::App app{"The simulation of a protected pair: many worlds, each from one seed"};
  app.add_option("--seeds", command.seeds, "How many seeds");
  app.add_option("--first", command.first, "The first of them");
  app.add_option("--seed", command.seed, "Only this one");
  app.add_option("--jobs", command.jobs, "Seeds at the same time")->check(CLI::Range(1, 256));
  app.add_option("--json", command.json, "Write the counters there, too");
  app.add_option("--mutant", command.mutant, "Run with this deliberate mistake");
  app.add_option("--scenario", command.scenario,
                 "Run this script; compare what happens with its end");
  app.add_flag("--update", command.update, "With --scenario: write what happens into the script");
  app.add_flag("--list-mutants", command.list_mutants, "Name the deliberate mistakes");
  app.add_flag("--mutants", command.all_mutants, "Every mutant, until its rule catches it");
  app.add_flag("--repeat", command.repeat, "Run each seed twice and compare the traces");
  app.add_flag("--verbose", command.verbose, "Print each step (with --seed)");
  CLI11_PARSE(app, argc, argv);

  if (command.list_mutants) {
    for (const auto& mutant : mutants())
      fmt::print("{:<16} {:<28} {} ({})\n", mutant.of, mutant.name, mutant.what, mutant.rules);
    return 0;
  }
  if (!command.scenario.empty())
    return run_scenario(command.scenario, command.update, command.verbose);
  if (command.all_mutants) return run_all_mutants(command);
  Mutant mutant = Mutant::none;
  if (!command.mutant.empty()) {
    const auto named = mutant_named(command.mutant);
    if (!named) {
      fmt::print("no mutant is called {}: see --list-mutants\n", command.mutant);
      return 2;
    }
    mutant = named->mutant;
  }
  if (command.seed) {
    command.first = *command.seed;
    command.seeds = 1;
    if (command.verbose) return run_verbose(*command.seed, mutant);
  }
  return command.repeat ? run_repeated(command) : run_normal(command, mutant);
}
