// SPDX-License-Identifier: LGPL-2.1-or-later
// What ftd tells Prometheus: its text exposition format, made of the statuses that guests' ftctls
// answer with. Pure; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace libft::ftd {

std::string prometheus_text(const std::vector<nlohmann::json>& statuses, bool maintenance);

}  // namespace libft::ftd
