// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/fd_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>

#include "os/event_fd.h"
#include "os/poll.h"

namespace libft::transport {
namespace {

Status closed_here(std::string_view doing) {
  return Status(Code::cancelled, fmt::format("{}: the connection was closed here", doing));
}

// Whatever ends a connection means the same to a session: the peer cannot be reached this way.
Status connection_status(std::string_view doing, int error) {
  Status status = os::errno_status(doing, error);
  return status.code() == Code::timeout ? Status(Code::peer_lost, status.message()) : status;
}

// A write to a pipe without a reader raises SIGPIPE, and only sockets can ask not to. It goes to
// the writing thread, so it can be held off and taken away without the host noticing.
class PipeSignalGuard {
 public:
  PipeSignalGuard() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~PipeSignalGuard() {
    const int saved = errno;
    const timespec now{};
    if (!was_pending_) {
      while (::sigtimedwait(&pipe_, nullptr, &now) < 0 && errno == EINTR) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = saved;
  }
  PipeSignalGuard(const PipeSignalGuard&) = delete;
  PipeSignalGuard& operator=(const PipeSignalGuard&) = delete;

 private:
  sigset_t pipe_, before_;
  bool was_pending_ = false;
};

// The part of the pieces that is not sent yet, in portions that one system call takes.
class Unsent {
 public:
  explicit Unsent(std::span<const std::span<const std::byte>> pieces) : pieces_(pieces) {
    skip_empty();
  }
  bool empty() const { return pieces_.empty(); }

  std::span<iovec> next() {
    const std::size_t count = std::min(pieces_.size(), portion_.size());
    for (std::size_t i = 0; i < count; ++i) {
      const auto piece = i == 0 ? pieces_[0].subspan(offset_) : pieces_[i];
      portion_[i] = {const_cast<std::byte*>(piece.data()), piece.size()};
    }
    return std::span(portion_).first(count);
  }

  void sent(std::size_t bytes) {
    while (bytes > 0) {
      const std::size_t left = pieces_[0].size() - offset_;
      if (bytes < left) {
        offset_ += bytes;
        return;
      }
      bytes -= left;
      offset_ = 0;
      pieces_ = pieces_.subspan(1);
    }
    skip_empty();
  }

 private:
  void skip_empty() {
    while (!pieces_.empty() && pieces_[0].size() == offset_) {
      pieces_ = pieces_.subspan(1);
      offset_ = 0;
    }
  }

  std::span<const std::span<const std::byte>> pieces_;
  std::size_t offset_ = 0;
  std::array<iovec, 64> portion_;
};

class FdStream final : public Transport {
 public:
  FdStream(os::ScopedFd in, os::ScopedFd out, os::EventFd wake, bool socket,
           std::string description, Trust trust, Nanos io_timeout)
      : in_(std::move(in)),
        out_(std::move(out)),
        wake_(std::move(wake)),
        socket_(socket),
        description_(std::move(description)),
        trust_(trust),
        io_timeout_(io_timeout) {}
  ~FdStream() override { close(); }

  Status send(std::span<const std::span<const std::byte>> pieces) override {
    for (Unsent unsent(pieces); !unsent.empty();) {
      if (closed_) return closed_here("send");
      const ssize_t wrote = write_some(unsent.next());
      if (wrote >= 0) {
        unsent.sent(static_cast<std::size_t>(wrote));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        FT_TRY(wait_writable());
      } else if (errno != EINTR) {
        return closed_ ? closed_here("send") : connection_status("send", errno);
      }
    }
    return {};
  }

  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    for (;;) {
      if (closed_) return failure(closed_here("receive"));
      const ssize_t got = ::read(in_.get(), buffer.data(), buffer.size());
      if (got > 0) return static_cast<std::size_t>(got);
      if (got == 0) return failure(end_of_stream());
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        FT_ASSIGN([[maybe_unused]] const auto woke,
                  os::wait_ready(in_.get(), POLLIN, wake_.fd(), os::kForever));
      } else if (errno != EINTR) {
        return failure(closed_ ? closed_here("receive") : connection_status("receive", errno));
      }
    }
  }

  // The descriptors stay open until the object goes: another thread may be just using them, and
  // their numbers must not be given to something else meanwhile.
  void close() override {
    if (closed_.exchange(true)) return;
    wake_.signal();
    if (socket_)
      ::shutdown(in_.get(), SHUT_RDWR);
    else
      replace_pipes();
  }

  std::string description() const override { return description_; }
  bool authenticated() const override { return trust_ == Trust::proven; }

 private:
  int out() const { return out_.valid() ? out_.get() : in_.get(); }

  ssize_t write_some(std::span<iovec> portion) {
    if (socket_) {
      msghdr message{};
      message.msg_iov = portion.data();
      message.msg_iovlen = portion.size();
      return ::sendmsg(out(), &message, MSG_NOSIGNAL);
    }
    PipeSignalGuard guard;
    return ::writev(out(), portion.data(), static_cast<int>(portion.size()));
  }

  Status wait_writable() {
    FT_ASSIGN(const os::Woke woke, os::wait_ready(out(), POLLOUT, wake_.fd(), io_timeout_));
    if (woke == os::Woke::called) return closed_here("send");
    if (woke == os::Woke::ready) return {};
    return Status(Code::peer_lost,
                  fmt::format("send: the peer took nothing for {} ms", io_timeout_ / Millis{1}));
  }

  Status end_of_stream() const {
    if (closed_) return closed_here("receive");
    return Status(Code::peer_lost, "receive: the peer closed the connection");
  }

  // Pipes have no shutdown. Another file under the same number lets the peer see the end now.
  void replace_pipes() {
    os::ScopedFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null.valid()) return;
    ::dup3(null.get(), in_.get(), O_CLOEXEC);
    if (out_.valid()) ::dup3(null.get(), out_.get(), O_CLOEXEC);
  }

  os::ScopedFd in_, out_;
  os::EventFd wake_;
  const bool socket_;
  const std::string description_;
  const Trust trust_;
  const Nanos io_timeout_;
  std::atomic<bool> closed_{false};
};

Status make_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return os::errno_status("make a descriptor non-blocking");
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return {};
}

bool is_socket(int fd) {
  struct stat about {};
  return ::fstat(fd, &about) == 0 && S_ISSOCK(about.st_mode);
}

}  // namespace

Result<std::unique_ptr<Transport>> from_fds(os::ScopedFd in, os::ScopedFd out,
                                            std::string description, Trust trust,
                                            Nanos io_timeout) {
  const bool socket = !out.valid() && is_socket(in.get());
  FT_TRY(make_nonblocking(in.get()));
  if (out.valid()) FT_TRY(make_nonblocking(out.get()));
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  return std::make_unique<FdStream>(std::move(in), std::move(out), std::move(wake), socket,
                                    std::move(description), trust, io_timeout);
}

}  // namespace libft::transport
