// SPDX-License-Identifier: LGPL-2.1-or-later
// Network namespaces as seen from the demo: entering one with a thread, and naming the processes
// that live in one, which is what "everything on that host" means here. Any thread.
#pragma once

#include <sys/types.h>

#include <vector>

#include "libft/status.h"

namespace libft::demo {

// Moves the calling thread into the namespace; -1 leaves it where it is. Sockets keep the namespace
// they were opened in.
Status enter_namespace(int netns_fd);

// All processes whose namespace this is, this one excepted.
std::vector<pid_t> processes_in(int netns_fd);

// Kills all of them, again until none is left (one may have been starting another). Returns how
// many.
int kill_all_in(int netns_fd);

Status signal_all(const std::vector<pid_t>& pids, int number);

}  // namespace libft::demo
