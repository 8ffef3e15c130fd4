// SPDX-License-Identifier: LGPL-2.1-or-later
// EventFd wakes a thread that waits in poll(): level-triggered, readable from signal() to drain().
// Any thread may call any function.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "os/fd.h"

namespace libft::os {

class EventFd {
 public:
  static Result<EventFd> create() {
    ScopedFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd.valid()) return failure(errno_status("eventfd"));
    return EventFd(std::move(fd));
  }

  int fd() const { return fd_.get(); }

  // Async-signal-safe. A counter that is full is readable already, so that failure needs no answer.
  void signal() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t done = ::write(fd_.get(), &one, sizeof one);
  }

  // Returns whether it was signalled since the last drain.
  bool drain() const {
    std::uint64_t count = 0;
    return ::read(fd_.get(), &count, sizeof count) == sizeof count && count > 0;
  }

 private:
  explicit EventFd(ScopedFd fd) : fd_(std::move(fd)) {}
  ScopedFd fd_;
};

}  // namespace libft::os
