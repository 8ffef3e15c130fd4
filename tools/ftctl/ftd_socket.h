// SPDX-License-Identifier: LGPL-2.1-or-later
// Where ftd is asked, and whether it runs. Any thread.
#pragma once

#include <optional>
#include <string>

#include "libft/status.h"

namespace libft::ftctl {

// The system's state directory is closed to all but root, and ftd's socket is not.
std::string ftd_socket(const std::string& state_dir);

// Its socket when it answers there; nothing when it does not run; a failure when this user may not
// ask it.
Result<std::optional<std::string>> running_ftd(const std::string& state_dir);

// The same for those who only look: a user without an ftd of their own is shown the system's, if
// they may look at that.
Result<std::optional<std::string>> ftd_to_look_at(const std::string& state_dir);

}  // namespace libft::ftctl
