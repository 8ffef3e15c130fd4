// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/namespace.h"

#include <sched.h>

#include "os/fd.h"

namespace libft::demo {

Status enter_namespace(int netns_fd) {
  if (netns_fd < 0 || ::setns(netns_fd, CLONE_NEWNET) == 0) return {};
  return os::errno_status("enter the client's network namespace");
}

}  // namespace libft::demo
