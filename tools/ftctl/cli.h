// SPDX-License-Identifier: LGPL-2.1-or-later
// ftctl's command line: which commands there are, and what was asked. Parsing only; main thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config.h"

namespace libft::ftctl {

struct Arguments {
  std::string command;
  std::vector<std::string> guests;        // What stands after the command without a dash.
  std::vector<std::string> command_line;  // After "--".
  std::map<std::string, std::vector<std::string>> given;  // Options of settings.h, by name.
  std::string config = kDefaultConfig;
  bool config_given = false;
  bool json = false, watch = false, follow = false;
  bool foreground = false;         // protect, standby: here, also when ftd runs.
  bool all = false, here = false;  // forget
  std::string json_file;           // bench --json FILE
  std::string plan;                // doctor --plan GUEST
  int memory_mib = 1024;
  std::string through;             // bench: "capi", "capi-loop": every second epoch so.
  int epochs = 0;                  // bench: 0: as many as make sense.
  bool machine = false;            // bench: the deterministic machine instead,
  bool record = false;             // what recording it costs,
  bool smp = false;                // what harts that execute at once cost.
  int dirty_pages_per_second = 0;  // doctor --plan; 0: not given.
  int nics = 1;                    // qemu-args
  int timeout_ms = 30000;
  int takes_hand_over = 0;  // version: the format that is asked for.
};

// The exit code when there is nothing more to do: help, version, or a usage error (printed).
std::optional<int> parse(int argc, char** argv, Arguments& arguments);

// The settings for one guest of the command line, a name or a specification; for "" what stands in
// no guest's section.
Result<Settings> settings_for(const Arguments& arguments, const Config& config,
                              const std::string& guest);

}  // namespace libft::ftctl
