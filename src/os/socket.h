// SPDX-License-Identifier: LGPL-2.1-or-later
// Stream sockets over TCP (IPv4, IPv6) and unix paths: made close-on-exec and non-blocking, every
// wait with a deadline. Used by transports, heartbeats and control sockets. Any thread.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "libft/types.h"
#include "os/fd.h"

namespace libft::os {

// Where a socket is: an IPv4 or IPv6 address with its port, or a path.
class SocketAddress {
 public:
  static Result<SocketAddress> unix_path(const std::string& path);
  static Result<SocketAddress> local(int fd);  // What the socket is bound to.
  static Result<SocketAddress> peer(int fd);   // What it is connected to.
  SocketAddress(const sockaddr* address, socklen_t bytes);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t bytes() const { return bytes_; }
  int family() const { return storage_.ss_family; }
  std::uint16_t port() const;     // 0 for a path.
  bool loopback() const;          // 127.0.0.0/8, ::1, or the former as an IPv4-mapped address.
  std::string to_string() const;  // "10.0.0.2:7070", "[::1]:7070", "/run/x"

 private:
  sockaddr_storage storage_{};
  socklen_t bytes_ = 0;
};

struct HostPort {
  std::string host;
  std::uint16_t port = 0;
};
// "10.0.0.2:7070", "[fe80::1%eth0]:7070", "host.example:7070"; ":7070" and "*:7070": every address.
Result<HostPort> parse_host_port(const std::string& text);

enum class ResolveFor { connecting, listening };
// All addresses of a host, in the order in which they should be tried. Name servers are asked
// without a deadline of ours: give numbers where that matters.
Result<std::vector<SocketAddress>> resolve(const HostPort& where, ResolveFor use);

// `timeout` covers this address only. kind: SOCK_STREAM or SOCK_SEQPACKET.
Result<ScopedFd> connect_socket(const SocketAddress& to, Nanos timeout, int kind = SOCK_STREAM);

// Binds and listens. A unix socket is usable by its owner only; the file of a listener that died is
// replaced, that of a living one is Code::busy. An IPv6 wildcard takes IPv4 too.
Result<ScopedFd> listen_socket(const SocketAddress& at, int kind = SOCK_STREAM);

// Waits for a connection; Code::cancelled when `wake_fd` became readable, Code::timeout at the
// deadline. A connection that ended before it was accepted is passed over.
Result<ScopedFd> accept_socket(int listening_fd, int wake_fd, Nanos timeout);

// Sends small pieces at once, and ends a connection whose peer's host is silent for `dead_after`,
// whether data is on its way (TCP_USER_TIMEOUT) or not (keepalive).
Status tune_tcp(int fd, Nanos dead_after);

Result<uid_t> peer_uid(int fd);  // Of a unix socket.

}  // namespace libft::os
