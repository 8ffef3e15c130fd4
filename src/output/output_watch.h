// SPDX-License-Identifier: LGPL-2.1-or-later
// Notices that a guest began to send, from outside: a packet socket on each of its devices becomes
// readable, before the gate's queue holds the frame. The plug gate asks it, because a kernel queue
// tells nobody that it holds something. One byte of a frame or two is kept; while those lie unread,
// further frames cost no copy. flush() and wait on the descriptors from any thread.
#pragma once

#include <vector>

#include "os/fd.h"

namespace libft::output {

class OutputWatch {
 public:
  // Watches what comes in from these devices of the calling thread's network namespace.
  static Result<OutputWatch> open(const std::vector<int>& ifindexes);

  const std::vector<os::ScopedFd>& sockets() const { return sockets_; }
  void flush() const;  // Forgets what was sent until now.

 private:
  std::vector<os::ScopedFd> sockets_;
};

}  // namespace libft::output
