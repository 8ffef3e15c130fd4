// SPDX-License-Identifier: LGPL-2.1-or-later
// What a running ftctl answers on its control socket.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "answers.h"
#include "daemon.h"
#include "report.h"

namespace libft::ftctl {

namespace {

Nanos patience_of(const Json& request) {
  return Millis{
      std::clamp<std::int64_t>(request.value("patience_ms", std::int64_t{30000}), 1, 3'600'000)};
}

Json text_or_error(const Result<std::string>& text) {
  return text ? Json{{"ok", true}, {"text", *text}} : error_answer(text.error());
}

Json accepted_or_error(const Status& status) {
  return status.ok() ? Json{{"ok", true}} : error_answer(status);
}

}  // namespace

void Daemon::answer(const Json& request, const ControlServer::Reply& reply) {
  const std::string command = request["command"].get<std::string>();
  if (command == "stop") {
    // The answer first: what follows ends the connection. While this ftctl is starting the wish
    // waits in the descriptor until run() looks.
    reply(Json{{"ok", true}});
    const std::uint64_t one = 1;
    if (::write(stop_.get(), &one, sizeof one) != sizeof one) {
      log_.write(LogLevel::error, "ftctl", system_error("stop").message());
    }
  } else if (!serving_) {
    reply(error_answer(Status(Code::busy, "this ftctl is just starting")));
  } else if (command == "status" || command == "list") {
    reply(answer_status_request(request));
  } else if (command == "hold") {
    reply(error_answer(replace_by(request)));  // Else there is nobody any more who could answer.
  } else if (command == "events") {
    answer_events(events_, request, reply);
  } else {
    reply(answer_wish(command, request));
  }
}

Json Daemon::answer_status_request(const Json& request) {
  const std::string wanted = request.value("guest", "");
  Json guests = Json::array();
  for (const Served& served : served_) {
    if (!wanted.empty() && served.guest.name() != wanted) continue;
    Json status = Json::parse(to_json(served.session->status()), nullptr, false);
    const GuestProcess process = host_.process(served.guest);
    status["uuid"] = uuid_of(process);
    status["domain"] = process.domain;
    guests.push_back(std::move(status));
  }
  return Json{{"ok", true}, {"pid", ::getpid()}, {"version", FTCTL_VERSION}, {"guests", guests}};
}

Result<Daemon::Served*> Daemon::find(const Json& request) {
  const std::string wanted = request.value("guest", "");
  Served* found = nullptr;
  for (Served& served : served_) {
    if (!wanted.empty() && served.guest.name() != wanted) continue;
    if (found != nullptr) {
      return failure(with_remedy(Code::invalid, "several guests are handled here", "name one"));
    }
    found = &served;
  }
  if (found != nullptr) return found;
  return failure(with_remedy(Code::not_found, fmt::format("no guest {} here", wanted),
                             "`ftctl list` shows which there are"));
}

Json Daemon::answer_wish(const std::string& command, const Json& request) {
  const auto found = find(request);
  if (!found) return error_answer(found.error());
  Served& served = **found;
  Session& session = *served.session;
  if (command == "switchover") {
    // Before the wish, so that its end cannot be seen first.
    const bool before = served.handing_over.exchange(true);
    const Status wish = session.switch_over();
    if (!wish) served.handing_over = before;
    return accepted_or_error(wish);
  }
  if (command == "failover") {
    const Status permitted = host_.permit(served.settings, served.guest, session.status());
    return accepted_or_error(permitted.ok() ? session.fail_over() : permitted);
  }
  if (command == "unprotect") {
    const Status permitted = host_.permit(served.settings, served.guest, session.status());
    return accepted_or_error(permitted.ok() ? session.unprotect() : permitted);
  }
  if (command == "strategy") {
    const auto to = strategy_from(request.value("strategy", ""));
    if (!to) return error_answer(to.error());
    return text_or_error(session.change_strategy(*to, patience_of(request)));
  }
  if (command == "verify") return text_or_error(session.verify(patience_of(request)));
  if (command == "test-failover") return text_or_error(session.test_failover(patience_of(request)));
  return error_answer(with_remedy(Code::invalid, fmt::format("unknown command {}", command),
                                  "status, list, events, switchover, failover, test-failover, "
                                  "verify, strategy, unprotect, stop"));
}

}  // namespace libft::ftctl
