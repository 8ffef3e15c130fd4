// SPDX-License-Identifier: LGPL-2.1-or-later
// Settings are everything that can be said about one guest's protection, on the command line or in
// the configuration file: the same keys, `--heartbeat-interval` here and `heartbeat_interval`
// there. keys() is the one table of them. Values; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "libft/status.h"

namespace libft::ftctl {

using Json = nlohmann::json;

struct Settings {
  // "qemu:FILE.json", "qemu:pid=N,qmp=PATH", "xen:NAME", "machine:IMAGE", "memory:mib=N"
  std::string guest;
  std::string name;
  std::string host;  // This host's name; empty: what the system says.
  std::string listen = "tcp:0.0.0.0:7070";
  std::vector<std::string> peer;
  std::vector<std::string> heartbeat;
  std::vector<std::string> tap;
  std::string arbiter;
  std::string fence;
  std::string key_file;
  std::string strategy;  // Empty: hybrid for a machine: guest, else checkpoint.
  std::string check;     // machine: a program that looks at a standby's copy; empty: nobody does.
  int delay = 0;         // machine: seconds that a standby executes later than it could.
  int delay_mib = 256;   // Of log that waits for that.
  std::string disk;      // machine: this host's copy of a writable disk; empty: the primary's name.
  std::string state_dir;  // Empty: default_state_dir().
  std::string control;    // Empty: one in the state directory.
  std::string epochs_log;
  std::string log_file;
  std::string end_file;
  bool manual_failover = false;
  bool fixed = false;
  bool no_redeliver_input = false;
  bool insecure = false;
  bool anew = false;
  bool resume = false;
  bool verbose = false;
  int interval = 25;
  int rebase_interval = 1000;
  int input_epoch = 0;
  int answer_max = 20;
  int floor = 4;
  int idle = 1000;
  int inflight = 2;
  int heartbeat_interval = 50;
  int heartbeat_missed = 3;
  int head_start = 25;
  int arbiter_timeout = 2000;
  int staging_mib = 64;
  int reference_mib = -1;
  int held_mib = 64;
  int hand_over = 0;  // A descriptor: what the program that this process was left; 0: it was none.
};

using Field = std::variant<std::string Settings::*, std::vector<std::string> Settings::*,
                           bool Settings::*, int Settings::*>;

struct Key {
  std::string_view option;  // "heartbeat-interval"
  Field field;
  std::string_view help;
  int min = 0, max = 0;      // For numbers.
  bool per_process = false;  // One value for the whole process: not in a guest's section.
};
std::span<const Key> keys();
const Key* find_key(std::string_view option);
std::string config_name(const Key& key);  // "heartbeat_interval"

// What differs from the defaults, as a guest's section of a configuration would say it; what
// belongs to a process or to one start of a guest (`anew`, `resume`) is left out.
Json to_section(const Settings& settings);

// Stores `value`; `where` names it in the error: "ftctl.json: guests.web.interval".
Status set(Settings& settings, const Key& key, const Json& value, const std::string& where);

// The same for what stands on a command line, where all is text. Lists are separated by commas, and
// several occurrences of the option add up.
Status set_from_text(Settings& settings, const Key& key, const std::vector<std::string>& texts);

// The candidate with the fewest edits from `word`.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

std::string default_state_dir();

}  // namespace libft::ftctl
