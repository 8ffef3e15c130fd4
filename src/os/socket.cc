// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "os/poll.h"

namespace libft::os {
namespace {

Result<ScopedFd> new_socket(int family, int kind) {
  ScopedFd fd(::socket(family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failure(errno_status("socket"));
  return fd;
}

Status set_option(int fd, int level, int name, int value, const char* what) {
  if (::setsockopt(fd, level, name, &value, sizeof value) == 0) return {};
  return errno_status(fmt::format("setsockopt {}", what));
}

// The file of a listener that is gone refuses connections; a living one accepts or is full.
bool abandoned(const SocketAddress& path, int kind) {
  auto probe = new_socket(AF_UNIX, kind);
  return probe && ::connect(probe->get(), path.get(), path.bytes()) != 0 && errno == ECONNREFUSED;
}

Status bind_unix(int fd, const SocketAddress& at, int kind) {
  ::fchmod(fd, 0600);  // Linux gives the file the socket's own mode: no moment open to others.
  if (::bind(fd, at.get(), at.bytes()) == 0) return {};
  if (errno == EADDRINUSE && abandoned(at, kind)) {
    ::unlink(at.to_string().c_str());
    if (::bind(fd, at.get(), at.bytes()) == 0) return {};
  }
  return errno_status("listen on " + at.to_string());
}

Status bind_inet(int fd, const SocketAddress& at) {
  FT_TRY(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  if (at.family() == AF_INET6) FT_TRY(set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY"));
  if (::bind(fd, at.get(), at.bytes()) != 0) return errno_status("listen on " + at.to_string());
  return {};
}

Status finish_connect(int fd, const SocketAddress& to, Nanos timeout) {
  FT_ASSIGN(const Woke woke, wait_ready(fd, POLLOUT, -1, timeout));
  if (woke == Woke::deadline)
    return Status(Code::timeout, fmt::format("connect to {}: no answer within {} ms",
                                             to.to_string(), timeout / Millis{1}));
  int error = 0;
  socklen_t bytes = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) error = errno;
  if (error != 0) return errno_status("connect to " + to.to_string(), error);
  return {};
}

bool passing_accept_error(int error) {
  return error == EINTR || error == ECONNABORTED || error == EAGAIN || error == EPROTO ||
         error == ENETDOWN || error == EHOSTDOWN || error == ENETUNREACH || error == EHOSTUNREACH;
}

}  // namespace

SocketAddress::SocketAddress(const sockaddr* address, socklen_t bytes)
    : bytes_(std::min<socklen_t>(bytes, sizeof storage_)) {
  std::memcpy(&storage_, address, bytes_);
}

Result<SocketAddress> SocketAddress::unix_path(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return failure(Code::invalid, fmt::format("socket path '{}': a unix socket's path has 1 to {} "
                                              "characters",
                                              path, sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

Result<SocketAddress> SocketAddress::local(int fd) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0)
    return failure(errno_status("getsockname"));
  return SocketAddress(reinterpret_cast<const sockaddr*>(&storage), bytes);
}

Result<SocketAddress> SocketAddress::peer(int fd) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0)
    return failure(errno_status("getpeername"));
  return SocketAddress(reinterpret_cast<const sockaddr*>(&storage), bytes);
}

std::uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(get())->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(get())->sin6_port);
  return 0;
}

bool SocketAddress::loopback() const {
  if (family() == AF_INET)
    return ntohl(reinterpret_cast<const sockaddr_in*>(get())->sin_addr.s_addr) >> 24 == 127;
  if (family() != AF_INET6) return false;
  const in6_addr& address = reinterpret_cast<const sockaddr_in6*>(get())->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&address) ||
         (IN6_IS_ADDR_V4MAPPED(&address) && address.s6_addr[12] == 127);
}

std::string SocketAddress::to_string() const {
  if (family() == AF_UNIX) return reinterpret_cast<const sockaddr_un*>(get())->sun_path;
  char host[NI_MAXHOST] = "?";
  ::getnameinfo(get(), bytes_, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return family() == AF_INET6 ? fmt::format("[{}]:{}", host, port())
                              : fmt::format("{}:{}", host, port());
}

Result<HostPort> parse_host_port(const std::string& text) {
  const auto wrong = [&](std::string_view why) {
    return failure(Code::invalid, fmt::format("address '{}': {}; write HOST:PORT, and an IPv6 "
                                              "address in brackets: [::1]:7070",
                                              text, why));
  };
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return wrong("the port is missing");
  HostPort result{text.substr(0, colon), 0};
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, result.port);
  if (parsed.ec != std::errc{} || parsed.ptr != end)
    return wrong("the port is not a number from 0 to 65535");
  if (result.host.starts_with('[') && result.host.ends_with(']'))
    result.host = result.host.substr(1, result.host.size() - 2);
  else if (result.host.find(':') != std::string::npos)
    return wrong("which colon ends the host is not clear");
  if (result.host == "*") result.host.clear();
  return result;
}

Result<std::vector<SocketAddress>> resolve(const HostPort& where, ResolveFor use) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (use == ResolveFor::listening ? AI_PASSIVE : 0);
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(where.host.empty() ? nullptr : where.host.c_str(),
                                  std::to_string(where.port).c_str(), &hints, &found);
  if (error != 0)
    return failure(Code::not_found,
                   fmt::format("look up host '{}': {}", where.host, ::gai_strerror(error)));
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next)
    addresses.emplace_back(a->ai_addr, a->ai_addrlen);
  ::freeaddrinfo(found);
  // A wildcard listener on IPv6 serves IPv4 too; the other way round it does not.
  if (use == ResolveFor::listening && where.host.empty())
    std::stable_partition(addresses.begin(), addresses.end(),
                          [](auto& a) { return a.family() == AF_INET6; });
  return addresses;
}

Result<ScopedFd> connect_socket(const SocketAddress& to, Nanos timeout, int kind) {
  FT_ASSIGN(ScopedFd fd, new_socket(to.family(), kind));
  if (::connect(fd.get(), to.get(), to.bytes()) == 0) return fd;
  // A unix socket whose listener has a full queue says EAGAIN: there is nothing to wait for.
  if (errno != EINPROGRESS && errno != EINTR)
    return failure(errno_status("connect to " + to.to_string()));
  FT_TRY(finish_connect(fd.get(), to, timeout));
  return fd;
}

Result<ScopedFd> listen_socket(const SocketAddress& at, int kind) {
  FT_ASSIGN(ScopedFd fd, new_socket(at.family(), kind));
  FT_TRY(at.family() == AF_UNIX ? bind_unix(fd.get(), at, kind) : bind_inet(fd.get(), at));
  if (::listen(fd.get(), 64) != 0) return failure(errno_status("listen on " + at.to_string()));
  return fd;
}

Result<ScopedFd> accept_socket(int listening_fd, int wake_fd, Nanos timeout) {
  for (;;) {
    FT_ASSIGN(const Woke woke, wait_ready(listening_fd, POLLIN, wake_fd, timeout));
    if (woke == Woke::called) return failure(Code::cancelled, "accept: closed here");
    if (woke == Woke::deadline) return failure(Code::timeout, "accept: nobody connected in time");
    ScopedFd fd(::accept4(listening_fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) return fd;
    if (!passing_accept_error(errno)) return failure(errno_status("accept"));
  }
}

Status tune_tcp(int fd, Nanos dead_after) {
  const auto ms = static_cast<int>(std::max<std::int64_t>(dead_after / Millis{1}, 1000));
  constexpr int kProbes = 3;
  const int probe_seconds = std::max(1, ms / 1000 / (kProbes + 1));
  FT_TRY(set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  FT_TRY(set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  FT_TRY(set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, probe_seconds, "TCP_KEEPIDLE"));
  FT_TRY(set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, probe_seconds, "TCP_KEEPINTVL"));
  FT_TRY(set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes, "TCP_KEEPCNT"));
  return set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, ms, "TCP_USER_TIMEOUT");
}

Result<uid_t> peer_uid(int fd) {
  ucred who{};
  socklen_t bytes = sizeof who;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) != 0)
    return failure(errno_status("SO_PEERCRED"));
  return who.uid;
}

}  // namespace libft::os
