// SPDX-License-Identifier: LGPL-2.1-or-later
#include "answers.h"

namespace libft::ftctl {

void answer_events(EventBook& book, const Json& request, const ControlServer::Reply& reply) {
  const std::string wanted = request.value("guest", "");
  const bool follow = request.value("follow", false);
  std::uint64_t from = request.value("from", std::uint64_t{0});
  do {
    const EventBook::Page page = book.read(from, follow ? Millis{1000} : Millis{0});
    if (page.missed > 0 && from > 0 && !reply(Json{{"ok", true}, {"missed", page.missed}})) return;
    std::uint64_t number = page.next - page.events.size();
    for (const Json& event : page.events) {
      const std::uint64_t n = number++;
      if (!wanted.empty() && event.value("guest", "") != wanted) continue;
      if (!reply(Json{{"ok", true}, {"event", event}, {"n", n}})) return;
    }
    from = page.next;
    // An empty line of life: it fails once the client has gone, which ends the loop.
    if (page.closed || (follow && page.events.empty() && !reply(Json{{"ok", true}}))) break;
  } while (follow);
  reply(Json{{"ok", true}, {"end", true}});
}

std::string_view role_for(const std::string& command) {
  return command == "failover" || command == "test-failover" ? "backup" : "primary";
}

}  // namespace libft::ftctl
