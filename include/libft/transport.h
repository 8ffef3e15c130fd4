// SPDX-License-Identifier: LGPL-2.1-or-later
// A Transport is one connection to the peer: an ordered stream of bytes in both directions.
// Implement it to carry libft's frames over something else.
// One thread may send while another receives; close() may be called from any thread at any time and
// makes both return. Frames, checksums and versions are not its business (src/wire).
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "libft/status.h"
#include "libft/types.h"

namespace libft {

class Transport {
 public:
  virtual ~Transport() = default;  // Closes.

  // Sends all the bytes of all the pieces, in order. Returns when the last one was handed to the
  // next layer, not when the peer has it. On failure the connection is of no further use.
  virtual Status send(std::span<const std::span<const std::byte>> pieces) = 0;

  // Waits for bytes and stores up to buffer.size() of them; returns how many.
  // An orderly end by the peer is Code::peer_lost. REQUIRES: buffer not empty.
  virtual Result<std::size_t> receive(std::span<std::byte> buffer) = 0;

  virtual void close() = 0;

  // For people and logs: "tcp 10.0.0.2:7070, TLS 1.3".
  virtual std::string description() const = 0;

  // True when the peer proved that it knows the shared key, or cannot be anybody else (memory,
  // loopback, a unix socket of the same user).
  virtual bool authenticated() const = 0;
};

// Something that accepts connections until it is closed.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual Result<std::unique_ptr<Transport>> accept() = 0;  // Waits.
  virtual void close() = 0;                                 // Any thread; makes accept() return.
  virtual std::string address() const = 0;                  // With the port that was really taken.
};

}  // namespace libft
