// SPDX-License-Identifier: LGPL-2.1-or-later
// A scenario is a schedule as text, with what then happens below it: both document the protocol,
// and a change of behaviour shows as a difference. See scenarios/*.txt.
#pragma once

#include <string>

namespace libft::sim {

// Returns 0 when what happened is what the file says; prints the difference otherwise.
// `update` writes what happened into the file instead.
int run_scenario(const std::string& path, bool update, bool verbose);

}  // namespace libft::sim
