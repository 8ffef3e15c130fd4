// SPDX-License-Identifier: LGPL-2.1-or-later
// A Transport that holds another's outgoing bytes back for a while, as a long line would: for tests
// and for trying out distances. Threads: as the port says.
#pragma once

#include <memory>

#include "libft/transport.h"

namespace libft::transport {

// What is sent reaches `inner` after `delay`, in order. At most `bytes_max` are on the line; then
// send() waits. Wrap both ends for a delay in both directions.
std::unique_ptr<Transport> delayed(std::unique_ptr<Transport> inner, Nanos delay,
                                   std::size_t bytes_max = 4 * 1024 * 1024);

}  // namespace libft::transport
