// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's ftctl is as old as the guest's protection: a new release is only used by what starts
// after it. So the guest's ftctl becomes the installed one in its place, its session held
// meanwhile: no failover, no copy of memory. Where that cannot be, this host's part of the guest is
// started anew: a backup in its place, a primary by handing the guest over to its backup, whose
// backup it then is. That is planned too, but costs one copy of the guest's memory; on the other
// host the same brings the guest back.
#include <fmt/format.h>

#include <algorithm>

#include "answers.h"
#include "report.h"
#include "supervisor.h"

namespace libft::ftd {

namespace {

using ftctl::with_remedy;

constexpr Millis kLookAgain{200};

// As what it was, by the same process, and able to lose a host again.
bool goes_on(const std::vector<Json>& statuses, const Json& before) {
  if (statuses.size() != 1) return false;
  const Json& now = statuses[0];
  const bool backup = now.value("role", "") == "backup" && now.value("state", "") == "in_sync";
  return now["keeper"].value("pid", 0) == before["keeper"].value("pid", 0) &&
         !now["keeper"].value("outdated", true) &&
         now.value("role", "") == before.value("role", "") &&
         (backup || now.value("protected", false));
}

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
    const auto upgraded = upgrade_one(status, until);
    if (!upgraded) return ftctl::error_answer(upgraded.error());
    text += fmt::format("{}: {}\n", status.value("guest", ""), *upgraded);
  }
  if (text.empty()) text = "every guest here is served by the installed release";
  return Json{{"ok", true}, {"text", text}};
}

Result<std::string> Supervisor::upgrade_one(const Json& status, Keeper::Clock::time_point until) {
  const auto [held, begun] = replace_in_place(status, until);
  if (held.ok())
    return fmt::format("served by the installed release, in place, as the {} that it was",
                       status.value("role", ""));
  if (begun) return failure(held.within("upgrade " + status.value("guest", "")));
  FT_TRY(start_anew(status, until));
  return fmt::format("backed here by the installed release; not in place: {}",
                     ftctl::complaint(held).cause);
}

// The answer to the wish is the end of the connection: nobody is left who could give another.
Supervisor::InPlace Supervisor::replace_in_place(const Json& status,
                                                 Keeper::Clock::time_point until) {
  const std::string name = status.value("guest", "");
  Lock lock(mutex_);
  const Keeper* keeper = find(name);
  if (keeper == nullptr || keeper->pid() != status["keeper"].value("pid", 0))
    return {not_here(name)};
  const auto argv = keeper->command();
  if (!argv) return {argv.error()};
  const std::string control = keeper->control();
  lock.unlock();
  const auto answer =
      ftctl::ask_once(control, {{"command", "hold"}, {"guest", name}, {"argv", *argv}});
  if (answer) return {ftctl::answer_status(*answer)};
  if (answer.error().code() != Code::peer_lost)
    return {answer.error(), answer.error().code() == Code::timeout};
  return {wait_for_successor(status, until), true};
}

Status Supervisor::wait_for_successor(const Json& status, Keeper::Clock::time_point until) {
  const std::string name = status.value("guest", "");
  const pid_t pid = status["keeper"].value("pid", 0);
  while (Keeper::Clock::now() < until) {
    if (goes_on(statuses(name), status)) return {};
    Lock lock(mutex_);
    const Keeper* keeper = find(name);
    if (keeper == nullptr || keeper->pid() != pid)
      return with_remedy(Code::guest_gone, fmt::format("process {} ended of it", pid),
                         "its log tells why; the guest is taken up as after a crash of ftctl");
    wait_until(lock, std::min(until, Keeper::Clock::now() + kLookAgain), [] { return false; });
  }
  return with_remedy(Code::timeout, fmt::format("guest {} is not protected again yet", name),
                     "`ftctl status` and `ftctl events` show how it goes on");
}

Status Supervisor::start_anew(const Json& status, Keeper::Clock::time_point until) {
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
