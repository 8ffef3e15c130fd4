// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/sockets.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "os/event_fd.h"
#include "os/poll.h"
#include "os/socket.h"
#include "transport/fd_stream.h"

namespace libft::transport {
namespace {

using os::ResolveFor;
using os::ScopedFd;
using os::SocketAddress;

constexpr std::string_view kRemedy =
    "make a key once with 'ftctl keygen FILE', copy it to the other host, and give both "
    "'--key-file FILE' (or '--insecure', if nobody else can reach this network)";

Status needs_key(const std::string& what) {
  return Status(Code::refused, fmt::format("{} is on another host and no shared key was given: {}",
                                           what, kRemedy));
}

// Without a key: whether the peer can only be somebody who may, and whether that must be so.
Result<Trust> trust_in(const SocketAddress& peer, int fd, const Options& options) {
  if (options.psk) return Trust::proven;  // TLS decides, before anything is sent.
  if (peer.family() == AF_UNIX) {
    FT_ASSIGN(const uid_t user, os::peer_uid(fd));
    if (user == ::geteuid() || user == 0) return Trust::proven;
    if (options.insecure) return Trust::assumed;
    return failure(Code::refused, fmt::format("the peer runs as another user ({}) and no shared "
                                              "key was given: {}",
                                              user, kRemedy));
  }
  if (peer.loopback()) return Trust::proven;
  if (options.insecure) return Trust::assumed;
  return failure(needs_key(peer.to_string()));
}

Result<std::unique_ptr<Transport>> stream_over(ScopedFd fd, const Options& options) {
  FT_ASSIGN(const SocketAddress peer, SocketAddress::peer(fd.get()));
  FT_ASSIGN(const Trust trust, trust_in(peer, fd.get(), options));
  if (peer.family() == AF_UNIX) {
    FT_ASSIGN(const SocketAddress local, SocketAddress::local(fd.get()));
    // One of the two ends has the path, the other has no name.
    const std::string path = peer.to_string().empty() ? local.to_string() : peer.to_string();
    return from_fds(std::move(fd), ScopedFd(), "unix " + path, trust, options.io_timeout);
  }
  FT_TRY(os::tune_tcp(fd.get(), options.io_timeout));
  return from_fds(std::move(fd), ScopedFd(), "tcp " + peer.to_string(), trust, options.io_timeout);
}

class SocketListener final : public Listener {
 public:
  SocketListener(ScopedFd fd, os::EventFd wake, std::string address, std::string path,
                 const Options& options)
      : fd_(std::move(fd)),
        wake_(std::move(wake)),
        address_(std::move(address)),
        path_(std::move(path)),
        options_(options) {}

  ~SocketListener() override {
    close();
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  Result<std::unique_ptr<Transport>> accept() override {
    auto fd = os::accept_socket(fd_.get(), wake_.fd(), os::kForever);
    if (fd) return stream_over(std::move(*fd), options_);
    // Out of descriptors or memory: the connection still waits, so a caller that simply tries again
    // would spin.
    if (fd.error().code() == Code::exhausted)
      (void)os::wait_ready(wake_.fd(), POLLIN, -1, Millis{100});
    return failure(fd.error().within(address_));
  }

  void close() override { wake_.signal(); }
  std::string address() const override { return address_; }

 private:
  ScopedFd fd_;
  os::EventFd wake_;
  const std::string address_;
  const std::string path_;  // Of the unix socket; else empty.
  const Options options_;
};

Result<std::unique_ptr<Listener>> listen_at(const SocketAddress& at, const Options& options) {
  const bool tcp = at.family() != AF_UNIX;
  if (tcp && !at.loopback() && !options.psk && !options.insecure)
    return failure(Code::refused, fmt::format("listening on {} lets other hosts connect, and no "
                                              "shared key was given: {}",
                                              at.to_string(), kRemedy));
  FT_ASSIGN(ScopedFd fd, os::listen_socket(at));
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  FT_ASSIGN(const SocketAddress taken, SocketAddress::local(fd.get()));
  return std::make_unique<SocketListener>(std::move(fd), std::move(wake),
                                          (tcp ? "tcp:" : "unix:") + taken.to_string(),
                                          tcp ? "" : at.to_string(), options);
}

Status explain_taken(Status status, const std::string& remedy) {
  if (status.code() != Code::busy) return status;
  return Status(Code::busy, status.message() + "; " + remedy);
}

}  // namespace

Result<std::unique_ptr<Transport>> open_tcp(const std::string& where, const Options& options) {
  FT_ASSIGN(const os::HostPort target, os::parse_host_port(where));
  FT_ASSIGN(const auto addresses, os::resolve(target, ResolveFor::connecting));
  Status last(Code::not_found, fmt::format("host '{}' has no address", target.host));
  for (const SocketAddress& address : addresses) {
    if (!address.loopback() && !options.psk && !options.insecure)
      return failure(needs_key(address.to_string()));
    auto fd = os::connect_socket(address, options.connect_timeout);
    if (fd) return stream_over(std::move(*fd), options);
    last = fd.error();
  }
  return failure(std::move(last));
}

Result<std::unique_ptr<Listener>> listen_tcp(const std::string& where, const Options& options) {
  FT_ASSIGN(const os::HostPort target, os::parse_host_port(where));
  FT_ASSIGN(const auto addresses, os::resolve(target, ResolveFor::listening));
  Status last(Code::not_found, fmt::format("host '{}' has no address", target.host));
  for (const SocketAddress& address : addresses) {
    auto listener = listen_at(address, options);
    if (listener) return listener;
    last = explain_taken(listener.error(),
                         fmt::format("port {} is in use: stop what listens there (ss -ltnp 'sport "
                                     "= :{}' shows it) or choose another port",
                                     target.port, target.port));
    // Only a family that this host lacks leaves another address to try.
    if (last.code() != Code::unsupported && last.code() != Code::io) break;
  }
  return failure(std::move(last));
}

Result<std::unique_ptr<Transport>> open_unix(const std::string& where, const Options& options) {
  FT_ASSIGN(const SocketAddress address, SocketAddress::unix_path(where));
  FT_ASSIGN(ScopedFd fd, os::connect_socket(address, options.connect_timeout));
  return stream_over(std::move(fd), options);
}

Result<std::unique_ptr<Listener>> listen_unix(const std::string& where, const Options& options) {
  FT_ASSIGN(const SocketAddress address, SocketAddress::unix_path(where));
  auto listener = listen_at(address, options);
  if (!listener)
    return failure(explain_taken(listener.error(),
                                 "another process listens on this path: stop it "
                                 "or choose another path"));
  return listener;
}

}  // namespace libft::transport
