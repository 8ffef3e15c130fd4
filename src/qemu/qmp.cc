// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/qmp.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>

#include "os/fd.h"

namespace libft::qemu {
namespace {

using Steady = std::chrono::steady_clock;

Result<os::ScopedFd> connect_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return failure(Code::invalid, fmt::format("QMP path {} is longer than the {} bytes of a unix "
                                              "socket's address: use a shorter one",
                                              path, sizeof address.sun_path - 1));
  std::memcpy(address.sun_path, path.c_str(), path.size());
  os::ScopedFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return failure(os::errno_status("socket"));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  const Status status = os::errno_status(fmt::format("connect to QMP socket {}", path));
  switch (errno) {
    case ENOENT:
      return failure(Code::not_found, status.message() +
                                          ": is QEMU running, with -qmp "
                                          "unix:PATH,server=on,wait=off and this PATH?");
    case ECONNREFUSED:
      return failure(Code::not_found, status.message() +
                                          ": the file is there but nobody listens; QEMU has ended, "
                                          "or it is no stream socket");
    case ENOTSOCK:
    case EPROTOTYPE: return failure(Code::invalid, status.message() + ": this is no QMP socket");
    default: return failure(status);
  }
}

Nanos until(Steady::time_point deadline) {
  return std::max(Nanos{0}, std::chrono::duration_cast<Nanos>(deadline - Steady::now()));
}

// True when readable, false at the timeout.
Result<bool> wait_readable(int fd, Nanos timeout) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timespec limit{static_cast<time_t>(seconds.count()),
                       static_cast<long>((timeout - seconds).count())};
  pollfd ready{fd, POLLIN, 0};
  const int count = ::ppoll(&ready, 1, &limit, nullptr);
  if (count < 0 && errno != EINTR) return failure(os::errno_status("poll"));
  return count > 0;
}

class SocketQmp final : public Qmp {
 public:
  SocketQmp(std::string path, os::ScopedFd socket, EventSink sink)
      : path_(std::move(path)), socket_(std::move(socket)), sink_(std::move(sink)) {}
  Status greet(Nanos timeout);

  Result<Ticket> post(std::string_view lines, unsigned commands, int fd) override;
  Result<Json> wait(Ticket ticket, Nanos timeout) override;
  void forget(Ticket ticket) override;
  int fd() const override { return socket_.get(); }
  void drain() override;
  bool lost() const override;
  const Json& greeting() const override { return greeting_; }
  pid_t server() const override;

 private:
  struct Slot {
    std::optional<Result<Json>> answer;
    bool abandoned = false;
  };
  static constexpr std::size_t kPendingMax = 64;
  static constexpr std::size_t kLineBytesMax = 64u << 20;

  Status read_some(Nanos timeout);
  void take_lines();
  void take_line(std::string_view line);
  void take_answer(const Json& message);
  Status send_all(std::string_view text, int fd);

  const std::string path_;
  const os::ScopedFd socket_;
  const EventSink sink_;
  Json greeting_;
  mutable std::mutex mutex_;
  std::string input_;
  std::map<Ticket, Slot> pending_;
  Ticket posted_ = 0;    // Tickets below this have been given out.
  Ticket answered_ = 0;  // The next answer is this one's.
  std::optional<Status> lost_;
};

}  // namespace

std::string qmp_line(std::string_view command, const Json& arguments) {
  Json message{{"execute", command}};
  if (!arguments.empty()) message["arguments"] = arguments;
  return message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_string()) return {};
  return object[key].get<std::string>();
}

std::uint64_t number_at(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key) || !object[key].is_number_unsigned()) return 0;
  return object[key].get<std::uint64_t>();
}

bool flag_at(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_boolean() &&
         object[key].get<bool>();
}

Result<Json> answer_in(const Json& reply) {
  if (reply.is_object() && reply.contains("return")) return reply["return"];
  const Json error = reply.is_object() && reply.contains("error") ? reply["error"] : Json();
  const std::string kind = text_at(error, "class");
  return failure(kind == "CommandNotFound" ? Code::unsupported : Code::refused,
                 text_at(error, "desc"));
}

Result<std::unique_ptr<Qmp>> Qmp::connect(const std::string& path, EventSink sink, Nanos timeout) {
  FT_ASSIGN(os::ScopedFd socket, connect_socket(path));
  auto qmp = std::make_unique<SocketQmp>(path, std::move(socket), std::move(sink));
  FT_TRY(qmp->greet(timeout));
  auto answer = qmp->execute("qmp_capabilities", Json::object(), timeout);
  if (!answer) return failure(answer.error().within("negotiate QMP on " + path));
  return std::unique_ptr<Qmp>(std::move(qmp));
}

Status SocketQmp::greet(Nanos timeout) {
  const auto deadline = Steady::now() + timeout;
  const std::scoped_lock lock(mutex_);
  while (greeting_.is_null()) {
    if (lost_)
      return Status(Code::invalid, fmt::format("{} is no QMP socket: {}", path_, lost_->message()));
    const Nanos left = until(deadline);
    if (left == Nanos{0})
      return Status(
          Code::busy,
          fmt::format("no greeting on QMP socket {}: another client holds it (QEMU serves "
                      "one at a time). Give libft a monitor of its own: a second -qmp "
                      "unix:PATH,server=on,wait=off",
                      path_));
    (void)read_some(left);  // A failure is in lost_.
  }
  return {};
}

Status SocketQmp::send_all(std::string_view text, int fd) {
  iovec piece{const_cast<char*>(text.data()), text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  while (piece.iov_len > 0) {
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return os::errno_status("send to QMP socket " + path_);
    piece.iov_base = static_cast<char*>(piece.iov_base) + sent;
    piece.iov_len -= static_cast<std::size_t>(sent);
    message.msg_control = nullptr;
    message.msg_controllen = 0;
  }
  return {};
}

Result<Qmp::Ticket> SocketQmp::post(std::string_view lines, unsigned commands, int fd) {
  const std::scoped_lock lock(mutex_);
  if (lost_) return failure(*lost_);
  if (pending_.size() + commands > kPendingMax)
    return failure(Code::exhausted, "QEMU has not answered the last commands on " + path_);
  const Ticket first = posted_;
  if (Status sent = send_all(lines, fd); !sent.ok()) {
    lost_ = Status(Code::guest_gone, sent.message());
    return failure(*lost_);
  }
  for (unsigned i = 0; i < commands; ++i) pending_[posted_++];
  return first;
}

Result<Json> SocketQmp::wait(Ticket ticket, Nanos timeout) {
  const auto deadline = Steady::now() + timeout;
  const std::scoped_lock lock(mutex_);
  const auto slot = pending_.find(ticket);
  if (slot == pending_.end()) return failure(Code::internal, "QMP answer awaited twice");
  while (!slot->second.answer) {
    Status status = lost_.value_or(Status());
    const Nanos left = until(deadline);
    if (status.ok() && left == Nanos{0})
      status = Status(Code::timeout, fmt::format("QEMU did not answer on {} within {} ms", path_,
                                                 timeout / Millis{1}));
    if (status.ok()) status = read_some(left);
    if (!status.ok()) {
      slot->second.abandoned = true;
      return failure(status);
    }
  }
  Result<Json> answer = std::move(*slot->second.answer);
  pending_.erase(slot);
  return answer;
}

void SocketQmp::forget(Ticket ticket) {
  const std::scoped_lock lock(mutex_);
  const auto slot = pending_.find(ticket);
  if (slot == pending_.end()) return;
  slot->second.abandoned = true;
  if (slot->second.answer) pending_.erase(slot);
}

Result<Json> Qmp::execute(std::string_view command, const Json& arguments, Nanos timeout, int fd) {
  FT_ASSIGN(const Ticket ticket, post(qmp_line(command, arguments), 1, fd));
  auto answer = wait(ticket, timeout);
  if (!answer) return failure(answer.error().within(command));
  return answer;
}

Result<std::string> Qmp::human(std::string_view command_line) {
  FT_ASSIGN(const Json text,
            execute("human-monitor-command", {{"command-line", std::string(command_line)}}));
  if (!text.is_string()) return failure(Code::corrupt, "human-monitor-command: no text");
  return text.get<std::string>();
}

void SocketQmp::drain() {
  const std::scoped_lock lock(mutex_);
  if (!lost_) (void)read_some(Nanos{0});
}

bool SocketQmp::lost() const {
  const std::scoped_lock lock(mutex_);
  return lost_.has_value();
}

pid_t SocketQmp::server() const {
  ucred who{};
  socklen_t bytes = sizeof who;
  return ::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 ? who.pid : 0;
}

// Waits for bytes and takes the lines in them. ok also when none came.
Status SocketQmp::read_some(Nanos timeout) {
  FT_ASSIGN(const bool readable, wait_readable(socket_.get(), timeout));
  if (!readable) return {};
  char buffer[16384];
  const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return {};
  if (got <= 0) {
    lost_ = Status(Code::guest_gone,
                   fmt::format("QEMU closed the QMP connection {}{}", path_,
                               got < 0 ? ": " + std::string(std::strerror(errno)) : std::string()));
    return *lost_;
  }
  input_.append(buffer, static_cast<std::size_t>(got));
  take_lines();
  if (input_.size() > kLineBytesMax) lost_ = Status(Code::corrupt, "endless line on " + path_);
  return lost_.value_or(Status());
}

void SocketQmp::take_lines() {
  std::size_t begin = 0;
  for (std::size_t end; (end = input_.find('\n', begin)) != std::string::npos; begin = end + 1)
    take_line(std::string_view(input_).substr(begin, end - begin));
  input_.erase(0, begin);
}

void SocketQmp::take_line(std::string_view line) {
  if (line.empty() || line == "\r") return;
  const Json message = Json::parse(line, nullptr, false);
  if (!message.is_object()) {
    lost_ =
        Status(Code::corrupt, fmt::format("no JSON object on {}: {}", path_, line.substr(0, 60)));
    return;
  }
  if (greeting_.is_null()) {
    if (message.contains("QMP"))
      greeting_ = message["QMP"];
    else
      lost_ = Status(Code::corrupt, fmt::format("no QMP greeting on {}", path_));
  } else if (message.contains("event")) {
    if (sink_) sink_(message);
  } else if (message.contains("return") || message.contains("error")) {
    take_answer(message);
  }
}

void SocketQmp::take_answer(const Json& message) {
  const auto slot = pending_.find(answered_);
  if (slot == pending_.end()) return;  // An answer to nothing that was asked.
  ++answered_;
  if (slot->second.abandoned) {
    pending_.erase(slot);
  } else {
    slot->second.answer = answer_in(message);
  }
}

}  // namespace libft::qemu
