// SPDX-License-Identifier: LGPL-2.1-or-later
// ftd keeps up the protections of this host's guests, so that they survive a restart of the
// toolstack, of ftd itself and of the host. docs/ftd.md describes it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ftd_socket.h"
#include "report.h"
#include "settings.h"
#include "signals.h"
#include "supervisor.h"

namespace {

using namespace libft;
using namespace libft::ftd;

constexpr char kConfig[] = "/etc/libft/ftd.json";

std::string beside(const char* name) {
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  // Installed: ftd in sbin, ftctl in bin; in a build folder each has its own.
  for (const char* place : {"../bin", ".", "../ftctl"}) {
    const auto file = (here / place / name).lexically_normal();
    if (std::filesystem::exists(file, error)) return file.string();
  }
  return name;
}

// What is said nowhere else. Of another state directory everything stays in there.
void fill_in(Options& options, bool system) {
  Places& places = options.places;
  if (places.run.empty()) places.run = ftctl::default_state_dir();
  if (options.socket.empty()) options.socket = ftctl::ftd_socket(places.run);
  if (options.store.empty())
    options.store = system ? "/var/lib/libft" : places.run + "/protections";
  if (places.logs.empty()) places.logs = system ? "/var/log/libft" : places.run;
  if (places.ftctl.empty()) places.ftctl = beside("ftctl");
}

struct Word {
  const char* name;  // On the command line; with underscores in the configuration.
  std::string* to;
  const char* help;
};

std::vector<Word> words_of(Options& options) {
  return {{"state-dir", &options.places.run, "Control sockets and state files (/run/libft)"},
          {"store", &options.store, "What is kept up, over a boot (/var/lib/libft)"},
          {"log-dir", &options.places.logs, "What the guests' ftctls say (/var/log/libft)"},
          {"socket", &options.socket, "Where ftd is asked (/run/ftd/socket)"},
          {"group", &options.group, "Its members may look; empty: nobody but the owner"},
          {"metrics", &options.metrics, "Answer Prometheus at ADDRESS:PORT (default: nowhere)"},
          {"on-event", &options.on_event, "Run this program for each event"},
          {"events-file", &options.events_file, "Append each event to this file, as a JSON line"},
          {"ftctl", &options.places.ftctl, "The ftctl that serves the guests (beside ftd)"}};
}

Status read_config(const std::string& file, bool required, Options& options) {
  std::ifstream in(file);
  if (!in && !required) return {};
  if (!in) return ftctl::system_error(file);
  std::stringstream text;
  text << in.rdbuf();
  const Json json = Json::parse(text.str(), nullptr, false, true);
  if (!json.is_object()) return Status(Code::invalid, file + ": expected a JSON object");
  std::vector<Word> words = words_of(options);
  for (const auto& [name, value] : json.items()) {
    std::string option = name;
    std::replace(option.begin(), option.end(), '_', '-');
    const auto word = std::find_if(words.begin(), words.end(),
                                   [&](const Word& known) { return known.name == option; });
    if (word == words.end() || !value.is_string()) {
      return ftctl::with_remedy(Code::invalid, fmt::format("{}: {}", file, name),
                                "keys are the long options of ftd, values are strings");
    }
    *word->to = value.get<std::string>();
  }
  return {};
}

int serve(Options options, bool verbose) {
  auto signals = ftctl::take_signals();
  if (!signals) return ftctl::print_error(signals.error());
  Notifier notifier;
  auto log = ftctl::Logger::open("", verbose);
  if (!log) return ftctl::print_error(log.error());
  auto supervisor = Supervisor::open(std::move(options), **log, std::move(*signals), notifier);
  if (!supervisor) return ftctl::print_error(supervisor.error());
  const int code = (*supervisor)->run();
  (*supervisor)->leave();
  std::fflush(nullptr);
  ::_exit(code);  // Requests that wait for a guest end with their connection.
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("ftd keeps up the protections of this host's guests.");
  app.name("ftd");
  app.set_version_flag("--version", "ftd " FTCTL_VERSION);
  std::string config = kConfig;
  bool verbose = false;
  Options options, said;
  std::vector<Word> words = words_of(said);
  for (Word& word : words) app.add_option(fmt::format("--{}", word.name), *word.to, word.help);
  app.add_option("--config", config, fmt::format("Configuration (default: {})", kConfig));
  app.add_flag("--verbose", verbose, "Log everything");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : ftctl::kUsage;
  }
  // The system's group has a default; whoever runs ftd for themselves has no use for one.
  const bool system = said.places.run.empty() && ::geteuid() == 0;
  if (system) options.group = "libft";
  const bool given = app.count("--config") > 0;
  if (system || given) {
    if (const Status read = read_config(config, given, options); !read) {
      return ftctl::print_error(read);
    }
  }
  std::vector<Word> into = words_of(options);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (app.count(fmt::format("--{}", words[i].name)) > 0) *into[i].to = *words[i].to;
  }
  fill_in(options, system);
  return serve(std::move(options), verbose);
}
