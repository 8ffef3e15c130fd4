// SPDX-License-Identifier: LGPL-2.1-or-later
// `xl-ft list`: as `xl list` shows domains, with what protection adds. Pure; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace libft::xl {

std::string list_table(const std::vector<nlohmann::json>& statuses);

}  // namespace libft::xl
