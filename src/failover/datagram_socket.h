// SPDX-License-Identifier: LGPL-2.1-or-later
// Datagram sockets for heartbeats: UDP over IPv4 and IPv6, and unix ones within a host.
// Non-blocking, and never connected by libft, so that a port that refuses (ICMP) is not an error
// here: it would prove nothing. One that a toolstack connected loses a datagram by it, no more. One
// thread at a time.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "libft/status.h"
#include "os/fd.h"
#include "os/socket.h"

namespace libft::failover {

// "10.0.0.1:7071", "[fd00::1]:7071", "host.name:7071" (asks the resolver) or "unix:/path".
Result<os::SocketAddress> datagram_address(const std::string& text, os::ResolveFor use);

class DatagramSocket {
 public:
  // Bound to `address`. A unix socket's path is made, in place of one that nobody listens to, and
  // removed in the end.
  static Result<DatagramSocket> bound(const std::string& address);
  // For sending to `target`: from `source`, or from whatever the kernel picks when it is empty.
  static Result<DatagramSocket> towards(const os::SocketAddress& target, const std::string& source);

  // One that somebody else opened: connected to the peer, or bound to where the peer sends. Its
  // flags become those of the others.
  static Result<DatagramSocket> given(os::ScopedFd fd);

  DatagramSocket(DatagramSocket&& other) noexcept;
  DatagramSocket& operator=(DatagramSocket&&) = delete;
  ~DatagramSocket();

  int fd() const { return fd_.get(); }
  std::string address() const;  // As bound: with the real port.
  const std::optional<os::SocketAddress>& peer() const {
    return peer_;
  }  // Whom it is connected to.

  // Best effort: a datagram that cannot go now counts as lost, as on any network. To its peer, when
  // it has one.
  bool send(std::span<const std::uint8_t> datagram, const os::SocketAddress& to) const;

  // The next datagram; nothing when none waits. `bytes` is its true size, also when `buffer` was
  // too small for it.
  struct Received {
    std::size_t bytes;
    os::SocketAddress from;
  };
  std::optional<Received> receive(std::span<std::uint8_t> buffer) const;

 private:
  explicit DatagramSocket(os::ScopedFd fd) : fd_(std::move(fd)) {}
  os::ScopedFd fd_;
  std::string remove_path_;
  std::optional<os::SocketAddress> peer_;
};

}  // namespace libft::failover
