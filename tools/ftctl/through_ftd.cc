// SPDX-License-Identifier: LGPL-2.1-or-later
#include "through_ftd.h"

#include <fmt/format.h>

#include <filesystem>

#include "commands.h"
#include "control.h"
#include "ftd_socket.h"
#include "report.h"

namespace libft::ftctl {

namespace {

std::string absolute(const std::string& path) {
  return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
}

// ftd has another working directory.
Settings with_whole_paths(Settings settings) {
  settings.key_file = absolute(settings.key_file);
  settings.epochs_log = absolute(settings.epochs_log);
  if (settings.guest.starts_with("qemu:") && settings.guest.ends_with(".json")) {
    settings.guest = "qemu:" + absolute(settings.guest.substr(5));
  }
  if (settings.arbiter.starts_with("file:")) {
    settings.arbiter = "file:" + absolute(settings.arbiter.substr(5));
  }
  return settings;
}

// Prints what ftd answers.
int tell(const std::string& ftd, const Json& request, int timeout_ms) {
  const auto answer = ask_once(ftd, request, timeout_ms + 5000);
  if (!answer) return print_error(answer.error());
  if (const Status done = answer_status(*answer); !done) return print_error(done);
  std::string text = answer->value("text", "");
  while (text.ends_with('\n')) text.pop_back();
  if (!text.empty()) fmt::print("{}\n", text);
  return kFine;
}

}  // namespace

std::optional<int> hand_to_ftd(const Arguments& arguments, const std::vector<Wanted>& guests) {
  // ftd keeps no witness up: nobody waits for one that comes back later.
  if (arguments.foreground || arguments.command == "run" || arguments.command == "witness")
    return std::nullopt;
  const Settings& process = guests.front().settings;
  const auto ftd = running_ftd(process.state_dir);
  if (!ftd) return print_error(ftd.error());
  if (!*ftd) return std::nullopt;
  for (const Wanted& wanted : guests) {
    const Settings settings = with_whole_paths(wanted.settings);
    const Json request{{"command", arguments.command},     {"guest", wanted.id.name()},
                       {"settings", to_section(settings)}, {"anew", settings.anew},
                       {"resume", settings.resume},        {"patience_ms", arguments.timeout_ms}};
    if (const int code = tell(**ftd, request, arguments.timeout_ms); code != kFine) return code;
  }
  return kFine;
}

namespace {

Result<Json> request_of(const Arguments& arguments) {
  Json request{{"command", arguments.command}, {"patience_ms", arguments.timeout_ms}};
  const std::string word = arguments.guests.size() == 1 ? arguments.guests[0] : "";
  if (arguments.command == "maintenance") {
    if (word != "on" && word != "off") {
      return failure(with_remedy(Code::invalid, "maintenance: on or off?",
                                 "ftctl maintenance on, or ftctl maintenance off"));
    }
    request["on"] = word == "on";
  }
  if (arguments.command == "forget" || arguments.command == "upgrade") {
    if (word.empty() != arguments.all) {
      return failure(with_remedy(Code::invalid, arguments.command + ": which guest?",
                                 "name one, or say --all"));
    }
    request["guest"] = word;
    request["all"] = arguments.all;
    request["here"] = arguments.here;
  }
  return request;
}

}  // namespace

int ftd_command(const Arguments& arguments, const Config& config) {
  const auto settings = settings_for(arguments, config, "");
  if (!settings) return print_error(settings.error());
  const auto request = request_of(arguments);
  if (!request) return print_error(request.error());
  const auto ftd = running_ftd(settings->state_dir);
  if (!ftd) return print_error(ftd.error());
  if (!*ftd) {
    return print_error(with_remedy(
        Code::not_found,
        fmt::format("no ftd runs here (looked for {})", ftd_socket(settings->state_dir)),
        "`systemctl start ftd`"));
  }
  return tell(**ftd, *request, arguments.timeout_ms);
}

}  // namespace libft::ftctl
