// SPDX-License-Identifier: LGPL-2.1-or-later
// What ftd answers to those who only ask.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "answers.h"
#include "metrics.h"
#include "report.h"
#include "supervisor.h"

namespace libft::ftd {

namespace {

constexpr int kAskMs = 2000;
constexpr const char* kReads[] = {"status", "list", "events", "metrics"};

bool only_reads(const std::string& command) {
  return std::find(std::begin(kReads), std::end(kReads), command) != std::end(kReads);
}

std::string_view to_string(Keeper::Phase phase) {
  switch (phase) {
    case Keeper::Phase::nothing: return "nothing";
    case Keeper::Phase::due: return "due";
    case Keeper::Phase::starting: return "starting";
    case Keeper::Phase::serving: return "serving";
  }
  return "nothing";
}

Json without_answer(const Keeper& keeper, bool maintenance) {
  const Protection& protection = keeper.protection();
  const bool held = maintenance && keeper.phase() == Keeper::Phase::nothing;
  return Json{{"guest", protection.name},
              {"role", "none"},
              {"state", held ? "maintenance" : std::string(to_string(keeper.phase()))},
              {"protected", false},
              {"detail", protection.note}};
}

void add_own(Json& status, const Keeper& keeper) {
  status["keeper"] = {{"phase", to_string(keeper.phase())},
                      {"starts", libft::ftd::to_string(keeper.protection().start)},
                      {"pid", keeper.pid()},
                      {"outdated", keeper.outdated()},
                      {"note", keeper.protection().note}};
}

}  // namespace

void Supervisor::answer(const ftctl::Caller& caller, const Json& request, const Reply& reply) {
  const std::string command = request["command"].get<std::string>();
  if (!only_reads(command) && caller.uid != 0 && caller.uid != ::geteuid()) {
    reply(ftctl::error_answer(ftctl::with_remedy(
        Code::refused,
        fmt::format("{} changes something, and user {} may only look", command, caller.uid),
        "ask as root")));
  } else if (command == "status" || command == "list") {
    reply(answer_status(request));
  } else if (command == "events") {
    ftctl::answer_events(events_, request, reply);
  } else if (command == "metrics") {
    reply(Json{{"ok", true}, {"text", metrics_text()}});
  } else {
    reply(answer_wish(request));
  }
}

// Those that ftd keeps up, and those that a person runs beside it.
std::vector<Supervisor::Known> Supervisor::known(const std::string& guest) {
  std::vector<Known> all;
  std::vector<std::string> own{options_.socket};
  {
    const Lock lock(mutex_);
    for (const auto& [name, keeper] : keepers_) {
      own.push_back(keeper->control());
      if (!guest.empty() && name != guest) continue;
      Known one{keeper->control(), without_answer(*keeper, maintenance_)};
      add_own(one.status, *keeper);
      all.push_back(std::move(one));
    }
  }
  for (Known& one : all) {
    const auto answer = ftctl::ask_once(one.socket, {{"command", "status"}}, kAskMs);
    if (!answer || answer->value("guests", Json::array()).empty()) continue;
    const Json keeper = one.status["keeper"];
    one.status = (*answer)["guests"][0];
    one.status["keeper"] = keeper;
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(options_.places.run, error)) {
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".sock") continue;
    if (std::find(own.begin(), own.end(), path) != own.end()) continue;
    const auto answer = ftctl::ask_once(path, {{"command", "status"}, {"guest", guest}}, kAskMs);
    if (!answer) continue;
    for (const Json& status : answer->value("guests", Json::array())) all.push_back({path, status});
  }
  return all;
}

std::vector<Json> Supervisor::statuses(const std::string& guest) {
  std::vector<Json> all;
  for (Known& one : known(guest)) all.push_back(std::move(one.status));
  return all;
}

Json Supervisor::answer_status(const Json& request) {
  const bool maintenance = [&] {
    const Lock lock(mutex_);
    return maintenance_;
  }();
  return Json{{"ok", true},
              {"pid", ::getpid()},
              {"version", FTCTL_VERSION},
              {"ftd", true},
              {"maintenance", maintenance},
              {"guests", statuses(request.value("guest", ""))}};
}

std::string Supervisor::metrics_text() {
  const std::vector<Json> all = statuses("");
  const Lock lock(mutex_);
  return prometheus_text(all, maintenance_);
}

}  // namespace libft::ftd
