// SPDX-License-Identifier: LGPL-2.1-or-later
// What ftd does for those who may change something.
#include <fmt/format.h>

#include <algorithm>

#include "answers.h"
#include "config.h"
#include "libft/types.h"
#include "report.h"
#include "supervisor.h"

namespace libft::ftd {

namespace {

using ftctl::error_answer;
using ftctl::with_remedy;

constexpr Millis kAgain{200}, kLeaves{35000};

int patience_ms(const Json& request) {
  return std::clamp(request.value("patience_ms", 30000), 1, 3'600'000);
}

Json done(const std::string& text) { return Json{{"ok", true}, {"text", text}}; }

// As its ftctl would have ended with this exit code; the words are its own.
Status status_of(const std::optional<ftctl::Ending>& ending, const std::string& log) {
  if (!ending) {
    return with_remedy(Code::io, "its ftctl was killed while it started", "read " + log);
  }
  switch (ending->how) {
    case ftctl::End::usage: return Status(Code::invalid, ending->why);
    case ftctl::End::refused: return Status(Code::refused, ending->why);
    case ftctl::End::fenced: return Status(Code::fenced, ending->why);
    default: return Status(Code::io, ending->why);
  }
}

Status nobody(const std::string& guest) {
  return with_remedy(
      Code::not_found,
      guest.empty() ? "no guest is kept up here" : fmt::format("ftd keeps up no guest {}", guest),
      "`ftctl list` shows which there are");
}

}  // namespace

Keeper::Clock::time_point Supervisor::until_of(const Json& request) {
  return Keeper::Clock::now() + Millis{patience_ms(request)};
}

Json Supervisor::answer_wish(const Json& request) {
  const std::string command = request["command"].get<std::string>();
  if (command == "protect") return start_guest(Start::primary, request);
  if (command == "standby") return start_guest(Start::backup, request);
  if (command == "forget") return forget(request);
  if (command == "maintenance") return maintenance(request);
  if (command == "upgrade") return upgrade(request);
  if (command == "stop") {
    return error_answer(with_remedy(
        Code::refused, "ftd keeps up the guests of this host: to end them is no single wish",
        "`ftctl forget GUEST` ends one, `ftctl maintenance on` moves all away, and "
        "`systemctl stop ftd` ends ftd alone"));
  }
  return forward(request);
}

// To the guest's own ftctl, which knows whether it can be done.
Json Supervisor::forward(const Json& request) {
  const std::string guest = request.value("guest", "");
  std::vector<Known> all = known(guest);
  if (all.size() > 1) {
    const std::string_view role = ftctl::role_for(request["command"].get<std::string>());
    std::erase_if(all, [&](const Known& one) { return one.status.value("role", "") != role; });
  }
  if (all.empty()) return error_answer(nobody(guest));
  if (all.size() > 1) {
    return error_answer(with_remedy(Code::invalid, "several guests are handled here", "name one"));
  }
  if (all[0].status.value("role", "") == "none") {
    return error_answer(with_remedy(
        Code::not_found,
        fmt::format("nothing of guest {} runs here: {}", guest, all[0].status.value("detail", "")),
        "`ftctl protect` or `ftctl standby` starts it"));
  }
  Json asked = request;
  asked["guest"] = all[0].status.value("guest", "");
  const auto answer = ftctl::ask_once(all[0].socket, asked, patience_ms(request) + 5000);
  return answer ? *answer : error_answer(answer.error());
}

Json Supervisor::start_guest(Start start, const Json& request) {
  const std::string name = request.value("guest", "");
  const Json section = request.value("settings", Json::object());
  const Keeper::Once once{request.value("anew", false), request.value("resume", false), true};
  const auto until = until_of(request);
  if (auto id = GuestId::from_name(name); !id) return error_answer(id.error());
  ftctl::Settings checked;
  if (const Status good = ftctl::apply_guest_section(checked, section, "settings."); !good) {
    return error_answer(good);
  }
  Lock lock(mutex_);
  if (maintenance_ || changing_) {
    return error_answer(
        with_remedy(Code::refused, "this host is in maintenance", "`ftctl maintenance off` first"));
  }
  Keeper* keeper = find(name);
  if (keeper != nullptr && keeper->has_process()) {
    return error_answer(with_remedy(
        Code::refused, fmt::format("guest {} is kept up here already, as {}", name, keeper->role()),
        "`ftctl status` shows it; `ftctl forget` ends it"));
  }
  const bool fresh = keeper == nullptr;
  if (fresh) keeper = &add_keeper(Protection{name, section, Start::nothing, "", false});
  // Only the guest's name: as it was told before.
  if (!fresh && section.size() > section.count("name")) keeper->replace_section(section);
  keeper->begin(start, once);
  const bool told = wait_until(lock, until, [&] {
    keeper = find(name);
    return keeper == nullptr || keeper->phase() == Keeper::Phase::serving ||
           keeper->phase() == Keeper::Phase::nothing;
  });
  if (keeper == nullptr) return error_answer(nobody(name));
  if (!told) {
    return error_answer(with_remedy(Code::timeout,
                                    fmt::format("guest {} is still being started", name),
                                    "`ftctl status` shows how it goes on"));
  }
  if (keeper->phase() == Keeper::Phase::serving) {
    return done(fmt::format("{}: kept up as {} by ftd", name, to_string(start)));
  }
  const Status why =
      status_of(keeper->last_ending(), fmt::format("{}/{}.log", options_.places.logs, name));
  if (fresh) {
    store_.remove(name);
    keepers_.erase(name);
  }
  return error_answer(why);
}

Json Supervisor::forget(const Json& request) {
  std::vector<Leaving> guests;
  if (request.value("all", false)) {
    auto all = all_leaving();
    if (!all) return error_answer(all.error());
    guests = std::move(*all);
  } else {
    guests.push_back({request.value("guest", ""), request.value("here", false)});
  }
  std::string text;
  for (const Leaving& guest : guests) {
    const Status forgot = forget_one(guest.name, guest.here, until_of(request));
    if (!forgot.ok()) return error_answer(forgot);
    text += fmt::format("{}{}: forgotten", text.empty() ? "" : "\n", guest.name);
  }
  return done(text);
}

// A Xen domain's frames do not pass through its ftctl: it stays where it is, its output open. Any
// other guest's network ends with its ftctl, so that it is moved, or nothing is done at all.
Result<std::vector<Supervisor::Leaving>> Supervisor::all_leaving() {
  std::vector<Leaving> all;
  std::vector<std::string> stuck;
  for (const Json& status : statuses("")) {
    if (!status.contains("keeper")) continue;
    const std::string name = status.value("guest", "");
    const bool xen = !status.value("domain", "").empty();
    all.push_back({name, xen});
    const bool alone = status.value("role", "") == "primary" && !status.value("protected", false);
    if (alone && !xen) stuck.push_back(name);
  }
  if (stuck.empty()) return all;
  return failure(with_remedy(
      Code::refused,
      fmt::format("the network of {} would end with ftd, and no peer can take it",
                  fmt::join(stuck, ", ")),
      "protect it again, end it, or `ftctl forget` it by name, which leaves it without a network"));
}

// `here`: the guest stays, unprotected, instead of being moved to its backup first.
Status Supervisor::forget_one(const std::string& name, bool here, Keeper::Clock::time_point until) {
  Lock lock(mutex_);
  Keeper* keeper = find(name);
  if (keeper == nullptr) return nobody(name);
  keeper->hold();
  const std::string control = keeper->control();
  const bool give_up = here && keeper->role() == "primary";
  while (keeper != nullptr && keeper->has_process()) {
    lock.unlock();
    if (give_up) {
      // Without a backup there is nothing to give up; what it says then does not matter.
      (void)ftctl::ask_once(control, {{"command", "unprotect"}, {"guest", name}});
    }
    // While it starts, nobody answers yet; then it has half a minute for a switch-over.
    const bool asked = ftctl::ask_to_stop(control, 5000).ok();
    const auto patience = asked ? kLeaves : kAgain;
    lock.lock();
    const auto ended = [&] {
      keeper = find(name);
      return keeper == nullptr || !keeper->has_process();
    };
    if (wait_until(lock, std::min(until, Keeper::Clock::now() + patience), ended)) break;
    if (Keeper::Clock::now() < until) continue;
    keeper->release();
    return with_remedy(Code::timeout, fmt::format("the ftctl of guest {} does not end", name),
                       fmt::format("read {}/{}.log", options_.places.logs, name));
  }
  store_.remove(name);
  keepers_.erase(name);
  standing_.erase(name);
  return {};
}

Json Supervisor::maintenance(const Json& request) {
  const bool on = request.value("on", true);
  const auto until = until_of(request);
  {
    const Lock lock(mutex_);
    if (changing_) return error_answer(Status(Code::busy, "maintenance is being switched already"));
    if (on == maintenance_) return done(on ? "maintenance is on already" : "maintenance is off");
    if (!on) {
      if (const Status stored = store_.set_maintenance(false); !stored) return error_answer(stored);
      maintenance_ = false;
    }
    changing_ = on;
  }
  if (!on) {
    release_all();
    return done("maintenance is off; the guests' backups are started");
  }
  const Status drained = drain(until);
  {
    const Lock lock(mutex_);
    changing_ = false;
    if (drained.ok()) maintenance_ = true;
  }
  if (!drained.ok()) {
    release_all();
    return error_answer(drained);
  }
  // Last: an ftd that dies before this starts what was here again.
  const Status stored = store_.set_maintenance(true);
  return stored.ok() ? done("maintenance is on: no guest runs or is backed here")
                     : error_answer(stored);
}

void Supervisor::release_all() {
  const Lock lock(mutex_);
  for (const auto& [name, keeper] : keepers_) keeper->release();
  wake();
}

// First it is looked whether all can go, then they go, one after another; their backups here end
// last, so that a refusal costs nothing.
Status Supervisor::drain(Keeper::Clock::time_point until) {
  std::vector<std::string> primaries, stuck;
  for (const Json& status : statuses("")) {
    if (!status.contains("keeper")) continue;
    const std::string name = status.value("guest", ""), role = status.value("role", "");
    const bool due = role == "none" && status["keeper"].value("starts", "") == "primary";
    if (role == "primary") primaries.push_back(name);
    if (due || (role == "primary" && !status.value("protected", false))) {
      stuck.push_back(fmt::format("{} ({})", name, status.value("state", "")));
    }
  }
  if (!stuck.empty()) {
    return with_remedy(
        Code::refused, fmt::format("no peer can take {}", fmt::join(stuck, ", ")),
        "protect them again first (`ftctl standby` on the other host, `ftctl status` "
        "here), or `ftctl forget` those that may end");
  }
  std::vector<std::string> all;
  {
    const Lock lock(mutex_);
    for (const auto& [name, keeper] : keepers_) {
      keeper->hold();
      if (std::find(primaries.begin(), primaries.end(), name) == primaries.end()) {
        all.push_back(name);
      }
    }
  }
  all.insert(all.begin(), primaries.begin(), primaries.end());
  for (const std::string& name : all) {
    Lock lock(mutex_);
    Keeper* keeper = find(name);
    if (keeper == nullptr || !keeper->has_process()) continue;
    const bool primary = keeper->role() == "primary";
    const std::string control = keeper->control();
    lock.unlock();
    if (primary) {
      FT_ASSIGN(const Json answer,
                ftctl::ask_once(control, {{"command", "switchover"}, {"guest", name}}));
      FT_TRY(ftctl::answer_status(answer).within("switch " + name + " over"));
    } else {
      FT_TRY(ftctl::ask_to_stop(control, 5000));
    }
    lock.lock();
    const bool ended = wait_until(lock, until, [&] {
      keeper = find(name);
      return keeper == nullptr || !keeper->has_process();
    });
    if (!ended) {
      return with_remedy(Code::timeout, fmt::format("guest {} has not left in time", name),
                         "`ftctl events` tells why; --timeout waits longer");
    }
  }
  return {};
}

}  // namespace libft::ftd
