// SPDX-License-Identifier: LGPL-2.1-or-later
// Entering a network namespace with a thread of one's own: sockets keep the namespace that they
// were opened in, so the thread need not live on. Any thread.
#pragma once

#include "libft/status.h"

namespace libft::demo {

// Moves the calling thread into the namespace; -1 leaves it where it is.
Status enter_namespace(int netns_fd);

}  // namespace libft::demo
