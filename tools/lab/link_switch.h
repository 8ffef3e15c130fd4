// SPDX-License-Identifier: LGPL-2.1-or-later
// A LinkSwitch sets network links down or up, all of them in one message to the kernel: a host's
// death cuts its cables at one instant. TwoHosts uses it. Any thread; calls wait for one another.
#pragma once

#include <mutex>
#include <span>

#include "os/fd.h"

namespace libft::lab {

class LinkSwitch {
 public:
  // Acts on the network namespace that the calling thread is in now, for ever.
  static Result<LinkSwitch> open();
  LinkSwitch(LinkSwitch&& other) noexcept : socket_(std::move(other.socket_)) {}

  enum class To { down, up };
  Status set(std::span<const unsigned> interface_indexes, To to);

 private:
  explicit LinkSwitch(os::ScopedFd socket) : socket_(std::move(socket)) {}

  std::mutex mutex_;
  os::ScopedFd socket_;
};

}  // namespace libft::lab
