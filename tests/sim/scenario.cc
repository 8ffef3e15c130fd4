// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/scenario.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>
#include <vector>

#include "sim/host.h"
#include "sim/world.h"

namespace libft::sim {
namespace {

constexpr std::string_view kLine = "--------";

struct Script {
  std::vector<std::string> commands;  // As written, comments included.
  std::vector<std::string> expected;
};

Script read_script(const std::string& path) {
  Script script;
  std::ifstream file(path);
  bool below = false;
  for (std::string line; std::getline(file, line);) {
    if (!below && line.starts_with(kLine))
      below = true;
    else
      (below ? script.expected : script.commands).push_back(line);
  }
  return script;
}

int host_named(const std::string& name) { return name.empty() ? 0 : name[0] - 'A'; }

// Before anything happens. False: it is no such choice.
bool choose(World& world, const std::string& word) {
  if (word == "lockstep") {
    world.exact = true;
    world.strategy = Strategy::lockstep;
  } else if (word == "witnessed") {
    world.witnessed = true;
  } else {
    return false;
  }
  return true;
}

// One command; false: there is no such command.
bool run_command(World& world, std::istringstream& words) {
  std::string verb, a, b;
  long length = 0;
  words >> verb;
  const auto host = [&](const std::string& name) -> Host& { return world.host(host_named(name)); };
  if (verb == "crash") {
    words >> a;
    host(a).crash(true);
  } else if (verb == "kill") {
    words >> a;
    host(a).crash(false);
  } else if (verb == "start") {
    words >> a;
    host(a).start();
  } else if (verb == "stall") {
    words >> a >> length;
    host(a).stall(Stall::host, Millis{length});
  } else if (verb == "stall-unseen") {
    words >> a >> length;
    host(a).stall(Stall::hidden, Millis{length});
  } else if (verb == "stall-session") {
    words >> a >> length;
    host(a).stall(Stall::session, Millis{length});
  } else if (verb == "block") {
    words >> a >> b;
    world.network.block(host_named(a), host_named(b));
  } else if (verb == "heal") {
    words >> a >> b;
    world.network.heal(host_named(a), host_named(b));
  } else if (verb == "reset") {
    for (const ConnectionId id : world.network.open_connections()) world.network.reset(id);
  } else if (verb == "cut-off") {
    words >> a;
    world.arbiter.cut_off[static_cast<std::size_t>(host_named(a))] = true;
  } else if (verb == "reach") {
    words >> a;
    world.arbiter.cut_off[static_cast<std::size_t>(host_named(a))] = false;
  } else if (verb == "next-swap-lands-in") {
    words >> length;
    world.arbiter.next_swap_lands_in = Millis{length};
  } else if (verb == "next-swap-is-lost") {
    world.arbiter.next_swap_never_lands = true;
  } else if (verb == "fail-over") {
    words >> a;
    if (host(a).replica()) host(a).replica()->owner_fails_over();
  } else if (verb == "hold") {
    words >> a;
    if (host(a).replica()) host(a).replica()->owner_holds();
  } else if (Replica* const it = world.owner(); !it) {
    return verb == "guest-ends" || verb == "switch-over";
  } else if (verb == "switch-over") {
    it->owner_switches_over();
  } else if (verb == "unprotect") {
    it->owner_unprotects();
  } else if (verb == "guest-loses-bit") {
    it->guest().lose_bit();
  } else if (verb == "guest-ends") {
    it->owner_ends_guest();
  } else if (verb == "guest-paused") {
    words >> length;
    it->owner_pauses_guest(Millis{length});
  } else if (verb == "guest-dies") {
    it->guest_process_dies();
  } else
    return false;
  return true;
}

// Epochs come and go by the hundred: a scenario is about what changes.
bool is_routine(const std::string& line) {
  for (const char* word :
       {"captures", "acknowledges", "hears", "releases", "refuses", "starts ", "cuts"})
    if (line.find(std::string(" ") + word) != std::string::npos) return true;
  return false;
}

std::vector<std::string> play(const Script& script, bool verbose) {
  std::vector<std::string> lines;
  World world({.seed = 1, .texts = true, .live = [&](const std::string& line) {
                 if (verbose) fmt::print("{}\n", line);
                 if (!is_routine(line)) lines.push_back(line);
               }});
  world.primary_options.interval.kind = core::IntervalOptions::Kind::fixed;
  bool begun = false, settle = false;
  for (const std::string& command : script.commands) {
    std::istringstream words(command);
    std::string first;
    long at = 0;
    if (!(words >> first) || first[0] == '#') continue;
    if (choose(world, first)) continue;
    if (!std::exchange(begun, true)) world.begin();
    if (first == "settle") {
      settle = true;
    } else if (first != "at" || !(words >> at)) {
      lines.push_back("? " + command);
    } else {
      world.run_until(Time{Millis{at}});
      std::string rest;
      std::getline(words, rest);
      lines.push_back(fmt::format("{:5}.000 --{}", at, rest));
      std::istringstream again(rest);
      if (rest != " stop" && !run_command(world, again)) lines.push_back("? " + command);
    }
  }
  if (settle) {
    world.stop_faults();
    lines.push_back(world.run_to_progress(Millis{25000}) ? "settled" : "not settled");
  }
  return lines;
}

}  // namespace

int run_scenario(const std::string& path, bool update, bool verbose) {
  const Script script = read_script(path);
  if (script.commands.empty()) {
    fmt::print("{}: no such script, or an empty one\n", path);
    return 2;
  }
  const auto lines = play(script, verbose);
  if (update) {
    std::ofstream file(path);
    for (const auto& line : script.commands) file << line << "\n";
    file << kLine << "\n";
    for (const auto& line : lines) file << line << "\n";
    return 0;
  }
  for (std::size_t n = 0; n < std::max(lines.size(), script.expected.size()); ++n) {
    const std::string was = n < lines.size() ? lines[n] : "(nothing more)";
    const std::string expected = n < script.expected.size() ? script.expected[n] : "(nothing more)";
    if (was == expected) continue;
    fmt::print("{}: expected\n  {}\nbut this happened\n  {}\n", path, expected, was);
    return 1;
  }
  return 0;
}

}  // namespace libft::sim
