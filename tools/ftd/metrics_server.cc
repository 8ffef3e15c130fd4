// SPDX-License-Identifier: LGPL-2.1-or-later
#include "metrics_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/poll.h"
#include "os/socket.h"

namespace libft::ftd {

namespace {

constexpr std::chrono::seconds kPatience{5};
constexpr std::size_t kRequestBytesMax = 8192;

// Until the empty line that ends a request's head.
Status read_request(int fd) {
  std::string request;
  while (request.find("\r\n\r\n") == std::string::npos && request.size() < kRequestBytesMax) {
    FT_ASSIGN(const os::Woke woke, os::wait_ready(fd, POLLIN, -1, kPatience));
    if (woke != os::Woke::ready) return Status(Code::timeout, "no request");
    char bytes[2048];
    const ssize_t got = ::recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0) return Status(Code::peer_lost, "no request");
    request.append(bytes, static_cast<std::size_t>(got));
  }
  return {};
}

void send_all(int fd, const std::string& text) {
  for (std::size_t sent = 0; sent < text.size();) {
    const auto woke = os::wait_ready(fd, POLLOUT, -1, kPatience);
    if (!woke || *woke != os::Woke::ready) return;
    const ssize_t n = ::send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<std::size_t>(n);
  }
}

}  // namespace

Result<std::unique_ptr<MetricsServer>> MetricsServer::open(const std::string& address,
                                                           std::function<std::string()> text) {
  FT_ASSIGN(const os::HostPort where, os::parse_host_port(address));
  FT_ASSIGN(const auto addresses, os::resolve(where, os::ResolveFor::listening));
  FT_ASSIGN(os::ScopedFd listening, os::listen_socket(addresses.front()));
  FT_ASSIGN(const os::SocketAddress bound, os::SocketAddress::local(listening.get()));
  FT_ASSIGN(os::EventFd stop, os::EventFd::create());
  return std::unique_ptr<MetricsServer>(
      new MetricsServer(std::move(listening), std::move(stop), bound.to_string(), std::move(text)));
}

MetricsServer::MetricsServer(os::ScopedFd listening, os::EventFd stop, std::string address,
                             std::function<std::string()> text)
    : listening_(std::move(listening)),
      stop_(std::move(stop)),
      address_(std::move(address)),
      text_(std::move(text)),
      thread_([this] { serve(); }) {}

MetricsServer::~MetricsServer() { stop_.signal(); }

void MetricsServer::serve() {
  for (;;) {
    const auto connection = os::accept_socket(listening_.get(), stop_.fd(), std::chrono::hours{24});
    if (connection) {
      answer(*connection);
    } else if (connection.error().code() != Code::timeout) {
      return;
    }
  }
}

void MetricsServer::answer(const os::ScopedFd& connection) {
  if (!read_request(connection.get()).ok()) return;
  const std::string body = text_();
  send_all(connection.get(),
           fmt::format("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
                       "Content-Length: {}\r\n\r\n{}",
                       body.size(), body));
}

}  // namespace libft::ftd
