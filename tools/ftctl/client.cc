// SPDX-License-Identifier: LGPL-2.1-or-later
// The commands that ask a running ftctl over its control socket.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "answers.h"
#include "commands.h"
#include "control.h"
#include "format.h"
#include "ftd_socket.h"
#include "report.h"

namespace libft::ftctl {

namespace {

namespace fs = std::filesystem;

struct Known {
  std::string socket;
  Json status;
};

std::vector<std::string> sockets(const Settings& settings) {
  if (!settings.control.empty()) return {settings.control};
  // ftd answers for all of them.
  if (const auto ftd = ftd_to_look_at(settings.state_dir); ftd && *ftd) return {**ftd};
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(settings.state_dir, error)) {
    if (entry.path().extension() == ".sock") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

// Everything that the ftctls of this host say of `guest` ("": of all guests). A socket where nobody
// answers is what a killed ftctl left behind.
std::vector<Known> ask_status(const Settings& settings, const std::string& guest, int timeout_ms) {
  std::vector<Known> known;
  for (const std::string& path : sockets(settings)) {
    auto answer = ask_once(path, {{"command", "status"}, {"guest", guest}}, timeout_ms);
    if (!answer || !answer_status(*answer)) continue;
    for (const Json& status : answer->value("guests", Json::array())) {
      known.push_back({path, status});
    }
  }
  return known;
}

Status nobody(const Settings& settings, const std::string& guest) {
  const std::string where = settings.control.empty() ? settings.state_dir : settings.control;
  return with_remedy(
      Code::not_found,
      guest.empty() ? fmt::format("no ftctl is running here (looked in {})", where)
                    : fmt::format("no ftctl here handles a guest {} (looked in {})", guest, where),
      "start `ftctl protect` or `ftctl standby`, or name its --state-dir");
}

std::vector<Json> statuses_of(const std::vector<Known>& known) {
  std::vector<Json> list;
  for (const Known& one : known) list.push_back(one.status);
  return list;
}

int show_status(const Arguments& arguments, const Settings& settings, const std::string& guest) {
  const std::vector<Known> known = ask_status(settings, guest, arguments.timeout_ms);
  if (known.empty()) return print_error(nobody(settings, guest));
  bool all_protected = true;
  for (const Known& one : known) all_protected &= counts_as_protected(one.status);
  if (arguments.json) {
    fmt::print("{}\n",
               known.size() == 1 ? known[0].status.dump() : Json(statuses_of(known)).dump());
  } else {
    for (const Known& one : known) fmt::print("{}", status_text(one.status));
  }
  std::fflush(stdout);
  return all_protected ? kFine : kNotProtected;
}

int status(const Arguments& arguments, const Settings& settings, const std::string& guest) {
  if (!arguments.watch) return show_status(arguments, settings, guest);
  for (;;) {
    if (!arguments.json) fmt::print("\x1b[H\x1b[2J");
    const int code = show_status(arguments, settings, guest);
    if (code == kNoGuest) return code;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

int list(const Arguments& arguments, const Settings& settings) {
  const std::vector<Known> known = ask_status(settings, "", arguments.timeout_ms);
  if (arguments.json) {
    fmt::print("{}\n", Json(statuses_of(known)).dump());
    return kFine;
  }
  fmt::print("{}", list_table(statuses_of(known)));
  return kFine;
}

int events(const Arguments& arguments, const Settings& settings, const std::string& guest) {
  const std::vector<std::string> paths = sockets(settings);
  Status last = nobody(settings, guest);
  int answered = 0;
  // With several ftctls on one host they are read in turn; following is for one of them.
  for (const std::string& path : paths) {
    const Json request{{"command", "events"}, {"guest", guest}, {"follow", arguments.follow}};
    Status refused;
    const Status asked = ask(path, request, arguments.timeout_ms, [&](const Json& answer) {
      refused = answer_status(answer);
      if (!refused || answer.contains("end")) return false;
      if (answer.contains("missed"))
        fmt::print(stderr, "{} events missed\n", answer["missed"].dump());
      if (!answer.contains("event")) return true;
      const Json& event = answer["event"];
      fmt::print("{}\n", arguments.json ? event.dump() : event_line(event));
      std::fflush(stdout);
      return true;
    });
    if (!refused) return print_error(refused);
    if (asked.ok() || (arguments.follow && asked.code() == Code::peer_lost))
      ++answered;
    else if (asked.code() != Code::not_found)
      last = asked;
  }
  return answered > 0 ? kFine : print_error(last);
}

Result<Known> choose(const Arguments& arguments, const Settings& settings,
                     const std::string& guest) {
  std::vector<Known> known = ask_status(settings, guest, arguments.timeout_ms);
  if (known.empty()) return failure(nobody(settings, guest));
  if (known.size() > 1) {
    std::erase_if(known, [&](const Known& one) {
      return one.status.value("role", "") != role_for(arguments.command);
    });
  }
  if (known.size() == 1) return known[0];
  return failure(with_remedy(Code::invalid,
                             known.empty() ? "no guest here has the role that this needs"
                                           : "several guests are handled here",
                             "name the guest; `ftctl list` shows them"));
}

// A switch-over ends when the old primary's ftctl is fenced or gone; a failover when this one is
// the primary. Polls, because either may end with the other process.
int wait_for_end(const Arguments& arguments, const Known& target) {
  const std::string guest = target.status.value("guest", "");
  const bool failover = arguments.command == "failover";
  const auto until = std::chrono::steady_clock::now() + Millis{arguments.timeout_ms};
  std::string state, detail;
  while (std::chrono::steady_clock::now() < until) {
    auto answer = ask_once(target.socket, {{"command", "status"}, {"guest", guest}}, 2000);
    const Json guests = answer ? answer->value("guests", Json::array()) : Json::array();
    if (guests.empty()) {
      if (!failover) return kFine;  // It ended, because its guest runs elsewhere.
      return print_error(Status(Code::peer_lost, "the ftctl of the backup ended"));
    }
    const std::string role = guests[0].value("role", "");
    // ftd starts a backup where the old primary was.
    if (failover ? role == "primary" : role != "primary" && role != "failed") return kFine;
    state = guests[0].value("state", "");
    detail = guests[0].value("detail", "");
    std::this_thread::sleep_for(Millis{100});
  }
  return print_error(
      with_remedy(Code::timeout,
                  fmt::format("{} was not done in time: {} ({})", arguments.command, state, detail),
                  "`ftctl status` shows how it goes on; --timeout waits longer"));
}

int wish(const Arguments& arguments, const Settings& settings, const std::string& guest,
         const std::string& strategy) {
  const auto target = choose(arguments, settings, guest);
  if (!target) return print_error(target.error());
  Json request{{"command", arguments.command},
               {"guest", target->status.value("guest", "")},
               {"patience_ms", arguments.timeout_ms}};
  if (!strategy.empty()) request["strategy"] = strategy;
  const auto answer = ask_once(target->socket, request, arguments.timeout_ms + 5000);
  if (!answer) return print_error(answer.error());
  if (const Status done = answer_status(*answer); !done) return print_error(done);
  if (const std::string text = answer->value("text", ""); !text.empty()) fmt::print("{}\n", text);
  if (arguments.command == "switchover" || arguments.command == "failover") {
    if (const int code = wait_for_end(arguments, *target); code != kFine) return code;
    fmt::print("{}: done\n", arguments.command);
  }
  return kFine;
}

int stop(const Arguments& arguments, const Settings& settings) {
  int stopped = 0;
  Status refused;
  for (const std::string& path : sockets(settings)) {
    const Status asked = ask_to_stop(path, arguments.timeout_ms);
    if (asked.ok()) ++stopped;
    // A socket where nobody answers is what a killed ftctl left behind.
    if (!asked.ok() && asked.code() != Code::not_found) refused = asked;
  }
  if (!refused.ok()) return print_error(refused);
  return stopped > 0 ? kFine : print_error(nobody(settings, ""));
}

}  // namespace

std::vector<Json> statuses_here(const Settings& settings, const std::string& guest,
                                int timeout_ms) {
  return statuses_of(ask_status(settings, guest, timeout_ms));
}

int client_command(const Arguments& arguments, const Config& config) {
  std::vector<std::string> guests = arguments.guests;
  std::string strategy;
  if (arguments.command == "strategy") {
    if (guests.empty())
      return print_error(
          with_remedy(Code::invalid, "strategy: which one?",
                      "ftctl strategy GUEST checkpoint|compare|hybrid|replay|lockstep"));
    strategy = guests.back();
    guests.pop_back();
  }
  if (guests.size() > 1) {
    return print_error(with_remedy(Code::invalid, "one guest at a time", "name one, or none"));
  }
  const auto settings = settings_for(arguments, config, "");
  if (!settings) return print_error(settings.error());
  if (const auto ftd = ftd_to_look_at(settings->state_dir); !ftd && settings->control.empty()) {
    return print_error(ftd.error());
  }
  const std::string guest = guests.empty() ? "" : guests[0];
  if (arguments.command == "list") return list(arguments, *settings);
  if (arguments.command == "status") return status(arguments, *settings, guest);
  if (arguments.command == "events") return events(arguments, *settings, guest);
  if (arguments.command == "stop") return stop(arguments, *settings);
  return wish(arguments, *settings, guest, strategy);
}

}  // namespace libft::ftctl
