// SPDX-License-Identifier: LGPL-2.1-or-later
// Interrupt is Ctrl-C and SIGTERM as something that waits can look at, so that whatever was started
// is also ended. The demo's main thread makes it before any other thread and waits with it.
#pragma once

#include <functional>
#include <string_view>

#include "libft/types.h"
#include "os/fd.h"

namespace libft::demo {

class Interrupt {
 public:
  // Blocks both signals in the calling thread, and so in all threads that it starts.
  static Result<Interrupt> take();

  // Waits until `done`; looks every 2 ms. Code::timeout, or Code::cancelled when interrupted.
  Status wait(std::string_view what, Nanos patience, const std::function<bool()>& done);
  Status sleep(Nanos duration);
  bool pending();

 private:
  explicit Interrupt(os::ScopedFd fd) : fd_(std::move(fd)) {}
  os::ScopedFd fd_;
  bool seen_ = false;
};

}  // namespace libft::demo
