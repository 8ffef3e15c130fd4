// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/options.h"

#include <algorithm>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <set>

namespace libft::demo {
namespace {

// "checkpoint" is the only one that both kinds can have.
constexpr std::string_view kOfMachine[] = {"checkpoint", "hybrid", "replay", "lockstep"};
constexpr std::string_view kOfQemu[] = {"checkpoint", "compare"};

std::set<std::string> all_strategies() {
  std::set<std::string> all(std::begin(kOfMachine), std::end(kOfMachine));
  all.insert(std::begin(kOfQemu), std::end(kOfQemu));
  return all;
}

bool can_have(bool machine, std::string_view strategy) {
  const auto possible = strategies_of(machine);
  return std::find(possible.begin(), possible.end(), strategy) != possible.end();
}

}  // namespace

std::span<const std::string_view> strategies_of(bool machine) {
  if (machine) return kOfMachine;
  return kOfQemu;
}

std::optional<int> parse(int argc, char** argv, DemoOptions& options) {
  CLI::App app(
      "Protects a real guest on two hosts made of network namespaces, makes one of them "
      "fail under a live client, and shows what the client saw",
      "ftctl demo");
  std::string victim = "primary";
  double seconds = 0;
  app.add_option("--runs", options.runs, "How often")->check(CLI::Range(1, 100000));
  app.add_option("--victim", victim,
                 "What fails: a host, the link between them, one of its two paths, the primary for "
                 "a while, libft alone, a bit of one of three replicas; or nothing, and somebody "
                 "switches over")
      ->check(CLI::IsMember(
          {"primary", "backup", "link", "path", "stall", "libft", "corrupt", "switchover"}));
  app.add_option("--arbiter", options.arbiter, "Who decides")
      ->check(CLI::IsMember({"file", "etcd"}));
  auto* before = app.add_option("--seconds", seconds,
                                "Under load before the failure (default: 3 to 6 at random); with "
                                "--bench, of a row (default: 60; see --strategies)");
  before->check(CLI::Range(0.2, 86400.0));
  app.add_option("--seed", options.seed, "Of the moments of failure (default: chosen, printed)");
  app.add_option("--rate", options.writes_per_s, "Writes a second that the client offers")
      ->check(CLI::Range(1.0, 20000.0));
  app.add_option("--memory-mib", options.memory_mib, "The guest's memory")
      ->check(CLI::Range(128, 65536));
  app.add_option("--interval", options.interval_ms, "As for ftctl protect")
      ->check(CLI::Range(1, 60000));
  app.add_option("--answer-max", options.answer_max_ms, "As for ftctl protect")
      ->check(CLI::Range(1, 10000));
  app.add_flag("--fixed", options.fixed, "As for ftctl protect");
  app.add_option("--json", options.json_file, "Write the figures to this file");
  app.add_option("--html", options.html_file, "The report (\"\" for none)");
  app.add_option("--keep-logs", options.keep_logs, "Keep all logs in this folder");
  app.add_option("--guest", options.guest,
                 "\"machine\": Linux on libft's own machine; or the folder of a guest for QEMU "
                 "(default: build one)");
  app.add_option("--strategy", options.strategy, "As for ftctl protect")
      ->check(CLI::IsMember(all_strategies()));
  app.add_option("--replicas", options.replicas,
                 "3: a witness executes the guest, too, and votes (machine, lockstep)")
      ->check(CLI::Range(2, 3));
  app.add_option("--beside", options.beside,
                 "After the runs: what protection adds to the clients' latency, and how many "
                 "checkpoints it takes, with this strategy too")
      ->check(CLI::IsMember(all_strategies()));
  app.add_option("--ftctl", options.ftctl, "The ftctl to use (default: this program)");
  app.add_option(
         "--through", options.through,
         "What protects the guest: ftctl; each host's ftd, which keeps the pair up; or capi, a "
         "small program in C with nothing but libft.h")
      ->check(CLI::IsMember({"ftctl", "ftd", "capi"}));
  app.add_flag("--reprotect-all", options.reprotect_all,
               "Protect the survivor again in each run, not only in the first");
  app.add_flag("--bench", options.bench, "No failure: load with and without protection, 4 rows");
  auto* strategies = app.add_flag(
      "--strategies", options.strategies,
      "No runs: a table of all strategies, for both kinds of guest or that of --guest, under all "
      "loads; --seconds: of a row (default: 7)");
  app.add_option("--document", options.document,
                 "Put the table there, between <!-- strategies --> and <!-- /strategies -->")
      ->needs(strategies);
  app.add_flag("--verbose", options.verbose, "Say what is being done");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.victim = *victim_from(victim);
  options.machine = options.guest == "machine";
  if (options.machine) options.guest.clear();
  if (options.strategy.empty()) options.strategy = options.machine ? "hybrid" : "checkpoint";
  if (options.through == "capi" && (options.machine || options.strategy != "checkpoint")) {
    std::fputs("ftctl demo: --through capi has QEMU guests and the strategy checkpoint only\n",
               stderr);
    return 2;
  }
  const bool executes = options.machine && options.strategy == "lockstep";
  const bool witnessed = options.replicas == 3 || options.victim == Victim::corrupt;
  if (witnessed && (!executes || options.through != "ftctl")) {
    std::fputs(
        "ftctl demo: a witness votes under --guest machine --strategy lockstep, through "
        "ftctl\n",
        stderr);
    return 2;
  }
  if (options.victim == Victim::corrupt && options.replicas != 3) {
    std::fputs(
        "ftctl demo: --victim corrupt needs --replicas 3: of two that differ nobody can "
        "say which one errs\n",
        stderr);
    return 2;
  }
  for (const std::string& strategy : {options.strategy, options.beside}) {
    if (strategy.empty() || can_have(options.machine, strategy)) continue;
    std::fprintf(stderr, "ftctl demo: a guest %s cannot have the strategy %s\n",
                 options.machine ? "on libft's machine" : "in QEMU (another: --guest machine)",
                 strategy.c_str());
    return 2;
  }
  if (before->count() > 0) options.seconds = seconds;
  return std::nullopt;
}

}  // namespace libft::demo
