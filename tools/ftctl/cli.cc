// SPDX-License-Identifier: LGPL-2.1-or-later
#include "cli.h"

#include <fmt/format.h>

#include <algorithm>
#include <CLI/CLI.hpp>

#include "report.h"

namespace libft::ftctl {

namespace {

// Which options of settings.h a command takes.
enum class Takes { none, client, primary, backup, witness, doctor, guard };

struct Command {
  const char* name;
  Takes takes;
  const char* guests;  // What stands after it, for help; empty: nothing.
  const char* help;
};

constexpr Command kCommands[] = {
    {"protect", Takes::primary, "GUEST", "Start or attach to a guest and protect it"},
    {"run", Takes::primary, "", "Run a QEMU command line (after --) and protect it"},
    {"standby", Takes::backup, "", "Be the backup; become the primary when it fails"},
    {"witness", Takes::witness, "",
     "Execute a guest under lockstep a third time, and vote with its backup"},
    {"list", Takes::client, "", "The guests that ftctl handles on this host"},
    {"status", Takes::client, "GUEST", "How a guest fares; exit code 3 if it is not protected"},
    {"events", Takes::client, "GUEST", "What has happened"},
    {"switchover", Takes::client, "GUEST", "Move the guest to its backup, without loss"},
    {"failover", Takes::client, "GUEST", "On the backup: take over now"},
    {"test-failover", Takes::client, "GUEST",
     "On the backup: run a copy, unplugged, and discard it"},
    {"verify", Takes::client, "GUEST", "Compare all memory of both replicas at one epoch"},
    {"strategy", Takes::client, "GUEST STRATEGY",
     "Go over to another strategy, protected all the while"},
    {"unprotect", Takes::client, "GUEST", "Give up the backup; the guest runs on alone"},
    {"forget", Takes::client, "GUEST", "ftd no longer keeps the guest up on this host"},
    {"upgrade", Takes::client, "GUEST",
     "Serve this host's part of the guest by the installed release"},
    {"maintenance", Takes::client, "on|off", "Move all guests away before the host goes down"},
    {"metrics", Takes::client, "", "What ftd tells Prometheus"},
    {"bugreport", Takes::doctor, "FILE", "Everything that helps to find a fault, no secrets"},
    {"may-start", Takes::guard, "GUEST",
     "May this host start the guest, or does another one run it?"},
    {"stop", Takes::client, "", "End the ftctl of this host in an orderly way (as SIGTERM does)"},
    {"qemu-args", Takes::primary, "", "What a QEMU command line needs to be protected"},
    {"doctor", Takes::doctor, "", "What this host can do, what is missing, how to get it"},
    {"bench", Takes::none, "", "Measure checkpoints of a guest in memory"},
    {"keygen", Takes::none, "FILE", "Make the key that both hosts share"},
    {"version", Takes::none, "", "The version"},
};

bool applies(const Key& key, Takes takes) {
  const std::string_view option = key.option;
  const bool client = option == "state-dir" || option == "control";
  switch (takes) {
    case Takes::none: return false;
    case Takes::client: return client;
    case Takes::doctor: return client || option == "arbiter" || option == "tap";
    case Takes::guard:
      return option == "arbiter" || option == "manual-failover" || option == "host" ||
             option == "state-dir" || option == "arbiter-timeout";
    case Takes::witness:
      return client || option == "name" || option == "host" || option == "peer" ||
             option == "key-file" || option == "insecure" || option == "disk" ||
             option == "log-file" || option == "verbose";
    case Takes::primary: return option != "guest";
    case Takes::backup:
      return option != "guest" && option != "anew" && option != "resume" && option != "strategy";
  }
  return false;
}

void add_settings(CLI::App& app, Takes takes, Arguments& arguments) {
  for (const Key& key : keys()) {
    if (!applies(key, takes)) continue;
    const std::string name(key.option);
    const std::string option = "--" + name, help(key.help);
    if (std::holds_alternative<bool Settings::*>(key.field)) {
      app.add_flag_callback(
          option, [&arguments, name] { arguments.given[name]; }, help);
    } else {
      app.add_option_function<std::vector<std::string>>(
             option,
             [&arguments, name](const std::vector<std::string>& texts) {
               arguments.given[name] = texts;
             },
             help)
          ->expected(1)
          ->take_all()
          ->allow_extra_args(false)
          ->type_name("VALUE");
    }
  }
}

void add_own_options(CLI::App& app, const std::string& command, Arguments& a) {
  if (command == "list" || command == "status" || command == "events" || command == "doctor") {
    app.add_flag("--json", a.json, "Answer in JSON");
  }
  if (command == "status") app.add_flag("--watch", a.watch, "Show it again every second");
  if (command == "events") app.add_flag("--follow", a.follow, "Wait for more");
  if (command == "protect" || command == "standby") {
    app.add_flag("--foreground", a.foreground, "Serve in this process, also when ftd runs");
  }
  if (command == "version") {
    app.add_option("--takes-hand-over", a.takes_hand_over,
                   "Exit code 0: this ftctl can take the place of one that asks so (for ftctl)");
  }
  if (command == "upgrade")
    app.add_flag("--all", a.all, "All guests of this host that an older release serves");
  if (command == "forget") {
    app.add_flag("--all", a.all, "All guests of this host");
    app.add_flag("--here", a.here, "Do not move it to its backup first: it stays, unprotected");
  }
  if (command == "qemu-args" || command == "doctor" || command == "bench") {
    app.add_option("--memory-mib", a.memory_mib, "Size of the guest's memory")
        ->check(CLI::Range(2, 1 << 24));
  }
  if (command == "qemu-args") {
    app.add_option("--nics", a.nics, "How many NICs it has")->check(CLI::Range(0, 16));
  }
  if (command == "doctor") {
    app.add_option("--plan", a.plan, "What protecting this guest needs on both sides");
    app.add_option("--dirty-rate", a.dirty_pages_per_second, "Pages written a second, for --plan")
        ->check(CLI::Range(1, 10000000));
  }
  if (command == "bench") {
    app.add_option("--json", a.json_file, "Write the figures to this file");
    app.add_option(
           "--through", a.through,
           "capi: measures what crossing the C ABI costs; capi-loop: the same for ports that "
           "are called in another thread's loop")
        ->check(CLI::IsMember({"capi", "capi-loop"}));
    app.add_option("--epochs,--repeats", a.epochs, "Checkpoints a row; with --machine, runs")
        ->check(CLI::Range(1, 1000000));
    app.add_flag("--machine", a.machine, "Measure the deterministic machine instead, beside QEMU");
    app.add_flag("--record", a.record, "With --machine: what recording its inputs costs");
    app.add_flag("--smp", a.smp, "With --machine: what harts that execute at once cost");
  }
  app.add_option("--timeout", a.timeout_ms, "Milliseconds to wait for an answer")
      ->check(CLI::Range(1, 3600000));
}

void add_command(CLI::App& app, const Command& command, Arguments& arguments) {
  CLI::App* sub = app.add_subcommand(command.name, command.help);
  sub->fallthrough(false);
  add_settings(*sub, command.takes, arguments);
  add_own_options(*sub, command.name, arguments);
  sub->add_option_function<std::string>(
      "--config",
      [&arguments](const std::string& file) {
        arguments.config = file;
        arguments.config_given = true;
      },
      fmt::format("Configuration (default: {})", kDefaultConfig));
  if (*command.guests != '\0') sub->add_option(command.guests, arguments.guests)->type_name("");
  sub->callback([&arguments, &command] { arguments.command = command.name; });
}

int usage_error(const std::string& cause, const std::string& remedy) {
  return print_error(with_remedy(Code::invalid, cause, remedy));
}

// CLI11 knows no near misses.
std::string suggestion(int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-' || argv[1][0] == '\0')
    return "`ftctl --help` lists the commands";
  std::vector<std::string> names{"demo"};
  for (const Command& command : kCommands) names.emplace_back(command.name);
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) {
    return fmt::format("`ftctl {} --help` lists its options", argv[1]);
  }
  return fmt::format("did you mean `ftctl {}`? `ftctl --help` lists the commands",
                     nearest(argv[1], names));
}

}  // namespace

std::optional<int> parse(int argc, char** argv, Arguments& arguments) {
  CLI::App app(
      "ftctl protects virtual machines: a second host carries on when the first one dies.");
  app.name("ftctl");
  app.footer(
      std::string("  demo                        Show it: two hosts, a guest, a failure\n\n") +
      kExitCodesHelp);
  app.require_subcommand(1);
  app.set_version_flag("--version", "ftctl " FTCTL_VERSION);
  for (const Command& command : kCommands) add_command(app, command, arguments);
  // What stands after "--" belongs to QEMU; CLI11 would take it for arguments of ours.
  int own = argc;
  for (int i = 1; i < argc && own == argc; ++i) {
    if (std::string_view(argv[i]) == "--") own = i;
  }
  for (int i = own + 1; i < argc; ++i) arguments.command_line.emplace_back(argv[i]);
  try {
    app.parse(own, argv);
  } catch (const CLI::CallForHelp& help) {
    app.exit(help);
    return kFine;
  } catch (const CLI::CallForAllHelp& help) {
    app.exit(help);
    return kFine;
  } catch (const CLI::CallForVersion& version) {
    app.exit(version);
    return kFine;
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what(), suggestion(argc, argv));
  }
  if (own != argc && arguments.command != "run") {
    return usage_error("only `ftctl run` takes a command line after --",
                       "leave it out, or use `ftctl run`");
  }
  return std::nullopt;
}

namespace {

Status apply_given(const Arguments& arguments, Settings& settings) {
  for (const auto& [option, texts] : arguments.given) {
    FT_TRY(set_from_text(settings, *find_key(option), texts));
  }
  return {};
}

bool is_spec(const std::string& guest) {
  return guest.starts_with("qemu:") || guest.starts_with("xen:") || guest.starts_with("memory:") ||
         guest.starts_with("machine:");
}

}  // namespace

Result<Settings> settings_for(const Arguments& arguments, const Config& config,
                              const std::string& guest) {
  Settings settings = config.common;
  if (is_spec(guest)) {
    settings.guest = guest;
  } else if (const auto section = config.guests.find(guest); section != config.guests.end()) {
    settings = section->second;
  } else if (!guest.empty() && guest != settings.name) {
    std::vector<std::string> names;
    for (const auto& [name, unused] : config.guests) names.push_back(name);
    return failure(with_remedy(
        Code::not_found, fmt::format("no guest {} in {}", guest, arguments.config),
        names.empty()
            ? "name it by its specification: qemu:FILE.json, qemu:pid=N,qmp=PATH or xen:NAME"
            : fmt::format("did you mean `{}`?", nearest(guest, names))));
  }
  FT_TRY(apply_given(arguments, settings));
  if (settings.state_dir.empty()) settings.state_dir = default_state_dir();
  return settings;
}

}  // namespace libft::ftctl
