// SPDX-License-Identifier: LGPL-2.1-or-later
#include "settings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <numeric>

#include "report.h"

namespace libft::ftctl {

namespace {

using S = Settings;
const Key kKeys[] = {
    {"guest", &S::guest,
     "The guest: qemu:FILE.json, qemu:pid=N,qmp=PATH, xen:NAME, machine:IMAGE or memory:mib=N"},
    {"name", &S::name, "The guest's name, the same on both hosts: 1 to 64 of A-Z a-z 0-9 . _ -"},
    {"host", &S::host, "This host's name in records and logs (default: the system's)"},
    {"listen", &S::listen, "Where backups connect: tcp:ADDRESS:PORT or unix:PATH"},
    {"peer", &S::peer,
     "Where the primary listens; several, separated by commas, are tried in turn"},
    {"heartbeat", &S::heartbeat,
     "Where heartbeats are exchanged: ADDRESS:PORT[,ADDRESS2:PORT2] (default: as --listen, port + "
     "1)"},
    {"tap", &S::tap, "TAP device of each of the guest's NICs, in their order"},
    {"arbiter", &S::arbiter, "Who decides: file:DIRECTORY, etcd:URL[,URL...] or manual:DIRECTORY"},
    {"fence", &S::fence, "What silences a lost host: exec:PROGRAM (default: none)"},
    {"key-file", &S::key_file, "The key that both hosts share (`ftctl keygen`)"},
    {"state-dir", &S::state_dir, "Control sockets and what a restarted ftctl must know", 0, 0,
     true},
    {"control", &S::control, "The control socket (default: in the state directory)", 0, 0, true},
    {"epochs-log", &S::epochs_log, "Append one JSON line an epoch to this file"},
    {"log-file", &S::log_file, "Append the log to this file too", 0, 0, true},
    {"end-file", &S::end_file, "Write to this file, as JSON, how it ended (for ftd)", 0, 0, true},
    {"hand-over", &S::hand_over, "A descriptor that the ftctl before this one left (for ftctl)", 3,
     1 << 20, true},
    {"manual-failover", &S::manual_failover, "Take over only when somebody says `ftctl failover`"},
    {"strategy", &S::strategy,
     "How the backup is kept equal: checkpoint; qemu: guests also compare; machine: guests also "
     "hybrid (their default), replay, lockstep"},
    {"check", &S::check,
     "standby of a guest that is executed here too: a program that looks at the copy; output waits "
     "until it says that all is well, and if it does not the guest ends"},
    {"delay", &S::delay,
     "standby, replay: seconds that the copy is executed later than it could be; a take-over "
     "executes what is left first",
     0, 86400},
    {"delay-mib", &S::delay_mib,
     "With --delay: log that waits at most; beyond it the oldest is executed early", 1, 1 << 20},
    {"disk", &S::disk,
     "standby, machine: guests: this host's file for the guest's writable disk; the primary's "
     "contents replace what is in it (default: the name that the primary's has)"},
    {"fixed", &S::fixed, "A checkpoint every --interval, whatever the guest does"},
    {"no-redeliver-input", &S::no_redeliver_input,
     "Do not deliver again, after a failover, what came in since the restored epoch"},
    {"insecure", &S::insecure, "Talk to a peer on another host without a key"},
    {"anew", &S::anew, "Start a guest whose record names another life of it: that one is given up"},
    {"resume", &S::resume,
     "Set the guest running if it stands still when it is taken up (ftctl was killed in a pause)"},
    {"verbose", &S::verbose, "Log everything, each epoch too", 0, 0, true},
    {"interval", &S::interval, "Milliseconds between checkpoints while no output waits", 1, 60000},
    {"floor", &S::floor, "Shortest run, in milliseconds, between two pauses", 1, 60000},
    {"idle", &S::idle, "Longest time, in milliseconds, between checkpoints of an idle guest", 1,
     60000},
    {"rebase-interval", &S::rebase_interval,
     "hybrid: milliseconds between the checkpoints that bound the log", 10, 60000},
    {"input-epoch", &S::input_epoch,
     "Machine guests: what comes in takes effect at the end of an epoch of at most so many "
     "milliseconds; 0: at once",
     0, 10},
    {"answer-max", &S::answer_max,
     "compare: milliseconds that the backup's guest may take to say the same; then a checkpoint", 1,
     10000},
    {"inflight", &S::inflight, "Epochs that may be sent and not yet acknowledged", 1, 16},
    {"heartbeat-interval", &S::heartbeat_interval, "Milliseconds between heartbeats", 5, 10000},
    {"heartbeat-missed", &S::heartbeat_missed, "So many missed heartbeats raise suspicion", 1, 100},
    {"head-start", &S::head_start, "Milliseconds that a suspecting backup leaves to the primary", 0,
     10000},
    {"arbiter-timeout", &S::arbiter_timeout, "Milliseconds until an arbiter's silence is `unknown`",
     100, 60000},
    {"staging-mib", &S::staging_mib, "Memory reserved for each epoch in flight", 1, 1 << 20},
    {"reference-mib", &S::reference_mib,
     "Memory for delta coding; -1: as the guest has, at most half of what is free", -1, 1 << 24},
    {"held-mib", &S::held_mib, "Output held at most; then the guest finds its link full", 1,
     1 << 16},
};

std::string_view kind_of(const Json& value) {
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "a whole number";
  if (value.is_number()) return "a fraction";
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return "null";
}

Status wrong_type(const std::string& where, const std::string& expected, const Json& value) {
  return Status(Code::invalid,
                fmt::format("{}: expected {}, found {}", where, expected, kind_of(value)));
}

Status set_list(std::vector<std::string>& to, const Json& value, const std::string& where) {
  const std::string expected = "a list of strings";
  if (value.is_string()) {
    to = {value.get<std::string>()};
    return {};
  }
  if (!value.is_array()) return wrong_type(where, expected, value);
  std::vector<std::string> items;
  for (const Json& item : value) {
    if (!item.is_string()) return wrong_type(where, expected, item);
    items.push_back(item.get<std::string>());
  }
  to = std::move(items);
  return {};
}

Status set_number(int& to, const Key& key, const Json& value, const std::string& where) {
  const std::string expected = fmt::format("a whole number from {} to {}", key.min, key.max);
  if (!value.is_number_integer()) return wrong_type(where, expected, value);
  // An unsigned number beyond the signed range must not wrap into the permitted one.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX) {
    return Status(Code::invalid, fmt::format("{}: expected {}", where, expected));
  }
  const auto number = value.get<std::int64_t>();
  if (number < key.min || number > key.max) {
    return Status(Code::invalid, fmt::format("{}: expected {}, found {}", where, expected, number));
  }
  to = static_cast<int>(number);
  return {};
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t from = 0; from <= text.size();) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    if (comma > from) parts.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  return parts;
}

std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::span<const Key> keys() { return kKeys; }

const Key* find_key(std::string_view option) {
  const auto found = std::find_if(std::begin(kKeys), std::end(kKeys),
                                  [&](const Key& key) { return key.option == option; });
  return found == std::end(kKeys) ? nullptr : found;
}

std::string config_name(const Key& key) {
  std::string name(key.option);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

Json to_section(const Settings& settings) {
  const Settings defaults;
  Json section = Json::object();
  for (const Key& key : keys()) {
    if (key.per_process || key.option == "anew" || key.option == "resume") continue;
    std::visit(
        [&](const auto field) {
          if (settings.*field != defaults.*field) section[config_name(key)] = settings.*field;
        },
        key.field);
  }
  return section;
}

Status set(Settings& settings, const Key& key, const Json& value, const std::string& where) {
  if (const auto* text = std::get_if<std::string Settings::*>(&key.field)) {
    if (!value.is_string()) return wrong_type(where, "a string", value);
    settings.*(*text) = value.get<std::string>();
    return {};
  }
  if (const auto* list = std::get_if<std::vector<std::string> Settings::*>(&key.field)) {
    return set_list(settings.*(*list), value, where);
  }
  if (const auto* flag = std::get_if<bool Settings::*>(&key.field)) {
    if (!value.is_boolean()) return wrong_type(where, "true or false", value);
    settings.*(*flag) = value.get<bool>();
    return {};
  }
  return set_number(settings.*std::get<int Settings::*>(key.field), key, value, where);
}

Status set_from_text(Settings& settings, const Key& key, const std::vector<std::string>& texts) {
  const std::string where = fmt::format("--{}", key.option);
  if (std::holds_alternative<std::vector<std::string> Settings::*>(key.field)) {
    Json list = Json::array();
    for (const std::string& text : texts) {
      for (std::string& part : split(text)) list.push_back(std::move(part));
    }
    return set(settings, key, list, where);
  }
  if (std::holds_alternative<bool Settings::*>(key.field)) return set(settings, key, true, where);
  if (texts.empty()) return Status(Code::invalid, where + ": a value is missing");
  const std::string& text = texts.back();
  if (!std::holds_alternative<int Settings::*>(key.field)) return set(settings, key, text, where);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Status(Code::invalid,
                  fmt::format("{}: expected a whole number from {} to {}, found '{}'", where,
                              key.min, key.max, text));
  }
  return set(settings, key, number, where);
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const auto best = std::min_element(
      candidates.begin(), candidates.end(),
      [&](const std::string& a, const std::string& b) { return edits(word, a) < edits(word, b); });
  return best == candidates.end() ? std::string() : *best;
}

std::string default_state_dir() {
  if (::geteuid() == 0) return "/run/libft";
  // A program, unlike a library, may look at its environment.
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime != '\0') return std::string(runtime) + "/libft";
  return fmt::format("/tmp/libft-{}", ::geteuid());
}

}  // namespace libft::ftctl
