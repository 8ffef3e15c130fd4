// SPDX-License-Identifier: LGPL-2.1-or-later
// One command for a host of the Xen lab, over a TCP connection to its command runner
// (dom0/command). No cryptography, which an emulated processor does slowly: the network between is
// the lab's own. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "libft/types.h"
#include "os/fd.h"

namespace libft::lab {

inline constexpr std::uint16_t kCommandPort = 7000, kShellPort = 7001;

struct CommandResult {
  int code = 0;        // 124: it took longer than `limit`, and was ended there.
  std::string output;  // Of both stdout and stderr.
};

// Sends `line` for bash with `input` as its stdin, and waits until it has ended. A process that it
// leaves behind must not hold its stdout, or is waited for too. `limit` is the command's; a host
// that does not answer gets a few seconds more: Code::timeout. Code::peer_lost: the host died.
Result<CommandResult> run_command(os::ScopedFd connection, std::string_view line, Nanos limit,
                                  std::string_view input);

}  // namespace libft::lab
