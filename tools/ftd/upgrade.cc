// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's ftctl is as old as the guest's protection: a new release is only used by what starts
// after it. So this host's part of a guest is started anew: a backup in its place, a primary by
// handing the guest over to its backup, whose backup it then is. Each is planned: no failover, and
// one copy of the guest's memory. On the other host the same brings the guest back.
#include <fmt/format.h>

#include <algorithm>

#include "answers.h"
#include "report.h"
#include "supervisor.h"

namespace libft::ftd {

namespace {

using ftctl::with_remedy;

constexpr Millis kLookAgain{200};

bool backed_anew(const std::vector<Json>& statuses, pid_t before) {
  return statuses.size() == 1 && statuses[0].value("role", "") == "backup" &&
         statuses[0].value("state", "") == "in_sync" &&
         statuses[0]["keeper"].value("pid", 0) != before;
}

Status cannot_move(const Json& status) {
  return with_remedy(Code::refused,
                     fmt::format("guest {} has no backup that could take it ({})",
                                 status.value("guest", ""), status.value("state", "")),
                     "upgrade and start its backup first: `ftctl standby` on the other host");
}

Status not_here(const std::string& guest) {
  return with_remedy(Code::not_found, fmt::format("nothing of guest {} runs here", guest),
                     "what is started next is the installed release; `ftctl list` shows what runs");
}

}  // namespace

Json Supervisor::upgrade(const Json& request) {
  const bool all = request.value("all", false);
  if (!all && request.value("guest", "").empty())
    return ftctl::error_answer(with_remedy(Code::invalid, "upgrade: which guest?", "name one"));
  const auto until = until_of(request);
  std::vector<Json> guests;
  for (Json& status : statuses(all ? "" : request.value("guest", ""))) {
    if (!status.contains("keeper") || status.value("role", "none") == "none") continue;
    if (!all || status["keeper"].value("outdated", false)) guests.push_back(std::move(status));
  }
  if (!all && guests.empty()) return ftctl::error_answer(not_here(request.value("guest", "")));
  std::string text;
  for (const Json& status : guests) {
    const Status upgraded = upgrade_one(status, until);
    if (!upgraded.ok()) return ftctl::error_answer(upgraded);
    text += fmt::format("{}: backed here by the installed release\n", status.value("guest", ""));
  }
  if (text.empty()) text = "every guest here is served by the installed release";
  return Json{{"ok", true}, {"text", text}};
}

Status Supervisor::upgrade_one(const Json& status, Keeper::Clock::time_point until) {
  const std::string name = status.value("guest", "");
  const pid_t before = status["keeper"].value("pid", 0);
  const bool primary = status.value("role", "") == "primary";
  if (primary && !status.value("protected", false)) return cannot_move(status);
  Lock lock(mutex_);
  Keeper* keeper = find(name);
  if (keeper == nullptr || keeper->pid() != before) return not_here(name);
  if (primary && !keeper->names_peer()) {
    return with_remedy(Code::refused,
                       fmt::format("guest {} would not be backed here afterwards", name),
                       "name this host's --peer: `ftctl forget` and `ftctl protect` with it");
  }
  const std::string control = keeper->control();
  if (!primary) keeper->hold();  // Until it has ended: then it comes back as what it is.
  lock.unlock();
  const Json wish{{"command", primary ? "switchover" : "stop"}, {"guest", name}};
  const auto answer = ftctl::ask_once(control, wish);
  const Status asked = answer ? ftctl::answer_status(*answer) : answer.error();
  lock.lock();
  const bool ended = asked.ok() && wait_until(lock, until, [&] {
                       keeper = find(name);
                       return keeper == nullptr || keeper->pid() != before;
                     });
  keeper = find(name);
  if (keeper == nullptr) return not_here(name);
  keeper->release();
  if (!asked.ok()) return asked.within("upgrade " + name);
  while (ended && Keeper::Clock::now() < until) {
    lock.unlock();
    if (backed_anew(statuses(name), before)) return {};
    lock.lock();
    wait_until(lock, std::min(until, Keeper::Clock::now() + kLookAgain), [] { return false; });
  }
  return with_remedy(Code::timeout, fmt::format("guest {} is not backed here again yet", name),
                     "`ftctl status` and `ftctl events` show how it goes on");
}

}  // namespace libft::ftd
