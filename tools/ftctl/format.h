// SPDX-License-Identifier: LGPL-2.1-or-later
// How a status looks to a person, and what it means to a monitor. Pure functions of the JSON that a
// running ftctl answers with; a missing key shows as empty, so that versions can differ.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "libft/session.h"

namespace libft::ftctl {

using Json = nlohmann::json;

// Protected, from the view of whoever asks this host: a primary with a backup, or a backup that can
// take over.
bool counts_as_protected(const Json& status);

std::string status_text(const Json& status);
std::string list_table(const std::vector<Json>& statuses);
std::string event_line(const Json& event);

std::string bytes_text(double bytes);  // "1.5 MiB"

// One line for a terminal: "web: first synchronisation, round 2 [#####.....] 41 %"; empty when
// there is none going on.
std::string progress_line(const SessionStatus& status, unsigned columns);

}  // namespace libft::ftctl
