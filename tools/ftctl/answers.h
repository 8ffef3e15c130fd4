// SPDX-License-Identifier: LGPL-2.1-or-later
// What every control socket answers in the same way, an ftctl's and ftd's. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "control.h"
#include "event_book.h"

namespace libft::ftctl {

// Lines of events, from where the request says, until the client has gone or has all.
void answer_events(EventBook& book, const Json& request, const ControlServer::Reply& reply);

// Where a command goes when a guest is handled twice on this host, as in a test of both replicas on
// one: a switch-over is for the primary, a failover for the backup.
std::string_view role_for(const std::string& command);

}  // namespace libft::ftctl
