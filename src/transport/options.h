// SPDX-License-Identifier: LGPL-2.1-or-later
// What a connection is opened or listened for with. A value.
#pragma once

#include <optional>

#include "libft/types.h"
#include "transport/key.h"

namespace libft::transport {

class MemoryHub;

struct Options {
  std::optional<Key> psk;  // With it: TLS 1.3, and only peers that know it. Both sides alike.
  bool insecure = false;   // Permits a peer on another host without a key: anybody may be it.
  Nanos connect_timeout = std::chrono::seconds{5};  // For the connection and for the handshake.
  Nanos io_timeout = std::chrono::seconds{10};      // send() without progress: the peer is lost.
  MemoryHub* memory = nullptr;  // Where "memory:NAME" is looked up; borrowed. Only for tests.
};

}  // namespace libft::transport
