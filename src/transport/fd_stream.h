// SPDX-License-Identifier: LGPL-2.1-or-later
// A Transport over open file descriptors: a connected socket, or a pair of pipes as a helper
// program (ssh, say) offers them. tcp and unix connections are made of it. Threads: as the port
// says.
#pragma once

#include <memory>
#include <string>

#include "libft/transport.h"
#include "os/fd.h"

namespace libft::transport {

enum class Trust {
  proven,   // The peer cannot be anybody else: it gave proof, or nobody else gets there.
  assumed,  // The user said so.
};

// Takes the descriptors and makes them non-blocking. `in` and `out` may be the same socket, given
// once with `out` not valid. send() without progress for `io_timeout` is Code::peer_lost.
Result<std::unique_ptr<Transport>> from_fds(os::ScopedFd in, os::ScopedFd out,
                                            std::string description, Trust trust, Nanos io_timeout);

}  // namespace libft::transport
