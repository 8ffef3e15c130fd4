// SPDX-License-Identifier: LGPL-2.1-or-later
// How the demo's clients reach the guest from a network namespace. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "libft/types.h"
#include "os/fd.h"
#include "os/socket.h"

namespace libft::demo {

struct Destination {
  std::string address = "127.0.0.1";  // Numeric IPv4.
  std::uint16_t port = 0;
  int netns_fd = -1;  // The namespace to connect from; -1: the calling thread's own.
};

Result<os::SocketAddress> address_of(const Destination& to);

// A TCP connection; tries again until somebody accepts, at most `patience`.
Result<os::ScopedFd> connect_patiently(const Destination& to, Nanos patience);

}  // namespace libft::demo
