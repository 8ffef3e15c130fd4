// SPDX-License-Identifier: LGPL-2.1-or-later
// Asks a running ftctl through its control socket: one JSON object a line, either way. The socket
// is a file, so that no namespace is in the way. Any thread.
#pragma once

#include <string>
#include <vector>

#include "demo/result.h"
#include "libft/types.h"

namespace libft::demo {

// The status of the one guest that the ftctl at `socket` handles.
Result<Json> ask_status(const std::string& socket);
// The guest moves to its backup.
Status ask_to_switch_over(const std::string& socket);
// All that it remembers, oldest first: {"at_s", "event", "text"}.
Result<std::vector<Json>> ask_events(const std::string& socket);

}  // namespace libft::demo
