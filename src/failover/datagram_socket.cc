// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/datagram_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>

namespace libft::failover {
namespace {

constexpr std::string_view kUnix = "unix:";

// A checkpoint may fill the same link: heartbeats ask to be queued before bulk data. The priority
// is the highest that needs no privilege. Refusals are harmless.
void ask_for_haste(int fd, int family) {
  const int priority = 6, low_delay = IPTOS_LOWDELAY;
  ::setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority);
  if (family == AF_INET) ::setsockopt(fd, IPPROTO_IP, IP_TOS, &low_delay, sizeof low_delay);
  if (family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &low_delay, sizeof low_delay);
}

Result<os::ScopedFd> open_socket(int family) {
  os::ScopedFd fd(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return failure(os::errno_status("heartbeat socket"));
  ask_for_haste(fd.get(), family);
  return fd;
}

// True when the path is a socket that nobody has open: what a killed process leaves.
bool abandoned(const os::SocketAddress& address) {
  const os::ScopedFd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return probe.valid() && ::connect(probe.get(), address.get(), address.bytes()) != 0 &&
         errno == ECONNREFUSED;
}

}  // namespace

Result<os::SocketAddress> datagram_address(const std::string& text, os::ResolveFor use) {
  if (text.starts_with(kUnix)) return os::SocketAddress::unix_path(text.substr(kUnix.size()));
  FT_ASSIGN(const os::HostPort where, os::parse_host_port(text));
  FT_ASSIGN(const auto found, os::resolve(where, use));
  if (found.empty()) return failure(Code::not_found, text + ": has no address");
  return found.front();
}

Result<DatagramSocket> DatagramSocket::bound(const std::string& text) {
  FT_ASSIGN(const auto address, datagram_address(text, os::ResolveFor::listening));
  FT_ASSIGN(os::ScopedFd fd, open_socket(address.family()));
  int result = ::bind(fd.get(), address.get(), address.bytes());
  if (result != 0 && errno == EADDRINUSE && address.family() == AF_UNIX && abandoned(address)) {
    ::unlink(text.c_str() + kUnix.size());
    result = ::bind(fd.get(), address.get(), address.bytes());
  }
  if (result != 0) return failure(os::errno_status("listen for heartbeats on " + text));
  DatagramSocket socket(std::move(fd));
  if (address.family() == AF_UNIX) socket.remove_path_ = text.substr(kUnix.size());
  return socket;
}

Result<DatagramSocket> DatagramSocket::towards(const os::SocketAddress& target,
                                               const std::string& source) {
  FT_ASSIGN(os::ScopedFd fd, open_socket(target.family()));
  if (target.family() == AF_UNIX) {
    // The bare family asks for an abstract name: answers need an address to go to.
    sockaddr_un any{};
    any.sun_family = AF_UNIX;
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any.sun_family) != 0)
      return failure(os::errno_status("name a heartbeat socket"));
  } else if (!source.empty()) {
    FT_ASSIGN(const auto from, os::resolve({source, 0}, os::ResolveFor::listening));
    if (from.empty() || ::bind(fd.get(), from.front().get(), from.front().bytes()) != 0)
      return failure(os::errno_status("send heartbeats from " + source));
  }
  return DatagramSocket(std::move(fd));
}

Result<DatagramSocket> DatagramSocket::given(os::ScopedFd fd) {
  if (!fd.valid())
    return failure(Code::invalid, "heartbeat socket: there is none; remedy: open it before");
  int kind = 0;
  socklen_t bytes = sizeof kind;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &kind, &bytes) != 0)
    return failure(os::errno_status("heartbeat socket"));
  if (kind != SOCK_DGRAM)
    return failure(Code::invalid,
                   "heartbeat socket: heartbeats are datagrams; remedy: open it with "
                   "SOCK_DGRAM");
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
      ::fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0)
    return failure(os::errno_status("heartbeat socket"));
  DatagramSocket socket(std::move(fd));
  if (auto peer = os::SocketAddress::peer(socket.fd())) socket.peer_ = *peer;
  const auto local = os::SocketAddress::local(socket.fd());
  if (local) ask_for_haste(socket.fd(), local->family());
  return socket;
}

DatagramSocket::DatagramSocket(DatagramSocket&& other) noexcept
    : fd_(std::move(other.fd_)),
      remove_path_(std::exchange(other.remove_path_, {})),
      peer_(other.peer_) {}

DatagramSocket::~DatagramSocket() {
  if (!remove_path_.empty()) ::unlink(remove_path_.c_str());
}

std::string DatagramSocket::address() const {
  const auto local = os::SocketAddress::local(fd_.get());
  if (!local) return "(unknown)";
  return remove_path_.empty() ? local->to_string() : std::string(kUnix) + remove_path_;
}

bool DatagramSocket::send(std::span<const std::uint8_t> datagram,
                          const os::SocketAddress& to) const {
  const auto all = static_cast<ssize_t>(datagram.size());
  if (peer_) return ::send(fd_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL) == all;
  return ::sendto(fd_.get(), datagram.data(), datagram.size(), MSG_NOSIGNAL, to.get(),
                  to.bytes()) == all;
}

std::optional<DatagramSocket::Received> DatagramSocket::receive(
    std::span<std::uint8_t> buffer) const {
  sockaddr_storage from{};
  socklen_t length = sizeof from;
  auto* address = reinterpret_cast<sockaddr*>(&from);
  const ssize_t got =
      ::recvfrom(fd_.get(), buffer.data(), buffer.size(), MSG_TRUNC, address, &length);
  if (got < 0) return std::nullopt;
  return Received{static_cast<std::size_t>(got), os::SocketAddress(address, length)};
}

}  // namespace libft::failover
