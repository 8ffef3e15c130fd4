// SPDX-License-Identifier: LGPL-2.1-or-later
#include "control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "report.h"

namespace libft::ftctl {

namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return failure(with_remedy(Code::invalid,
                               fmt::format("control socket {}: a path of 1 to {} bytes is needed",
                                           path, sizeof address.sun_path - 1),
                               "choose a shorter --state-dir or --control"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

Status nobody_answers(const std::string& path, int error) {
  if (error == EAGAIN) {
    return with_remedy(Code::busy, fmt::format("{} takes no more connections", path),
                       "whoever serves it stands still: look at its log and its process");
  }
  const std::string cause = fmt::format("no ftctl answers at {}: {}", path, std::strerror(error));
  if (error != EACCES) return Status(Code::not_found, cause);
  return with_remedy(Code::refused, cause, "ask as root, or, to read, as a member of group libft");
}

Result<Caller> other_end(int fd) {
  ucred there{};
  socklen_t bytes = sizeof there;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &there, &bytes) != 0) {
    return failure(system_error("control socket: who is there"));
  }
  return Caller{there.uid, there.pid};
}

}  // namespace

Result<Descriptor> connect_control(const std::string& path) {
  FT_ASSIGN(const sockaddr_un address, address_of(path));
  // Not to be held up by somebody who accepts nothing.
  Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failure(system_error("control socket"));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failure(nobody_answers(path, errno));
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return failure(system_error("control socket"));
  }
  return fd;
}

Result<Caller> listener_of(const std::string& path) {
  FT_ASSIGN(const Descriptor fd, connect_control(path));
  return other_end(fd.get());
}

namespace {

Status send_line(int fd, const Json& message) {
  // A guest's detail may carry bytes that are not UTF-8; an answer never fails for that.
  const std::string line = message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t n = ::send(fd, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
      return Status(Code::peer_lost, "the running ftctl closed the connection");
    }
    if (n <= 0) return system_error("control socket: send");
    sent += static_cast<std::size_t>(n);
  }
  return {};
}

enum class Got { line, end, too_long, timeout };

// Reads lines from a socket; what follows a line stays for the next call.
class LineReader {
 public:
  LineReader(int fd, std::size_t bytes_max) : fd_(fd), bytes_max_(bytes_max) {}

  Got next(std::string& line, int timeout_ms) {
    for (std::size_t searched = 0;;) {
      const std::size_t end = buffer_.find('\n', searched);
      if (end != std::string::npos) {
        line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return Got::line;
      }
      searched = buffer_.size();
      if (buffer_.size() > bytes_max_) return Got::too_long;
      if (const Got got = read_more(timeout_ms); got != Got::line) return got;
    }
  }

 private:
  Got read_more(int timeout_ms) {
    pollfd wait{fd_, POLLIN, 0};
    const int ready = ::poll(&wait, 1, timeout_ms);
    if (ready < 0 && errno == EINTR) return Got::line;
    if (ready == 0) return Got::timeout;
    char bytes[16384];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return Got::end;
    buffer_.append(bytes, static_cast<std::size_t>(n));
    return Got::line;
  }

  int fd_;
  std::size_t bytes_max_;
  std::string buffer_;
};

Result<Descriptor> listen_at(const std::string& path, std::optional<gid_t> group) {
  FT_ASSIGN(const sockaddr_un address, address_of(path));
  if (connect_control(path)) {
    return failure(with_remedy(Code::refused,
                               fmt::format("control socket {}: another ftctl uses it", path),
                               "end that one, or choose another --control"));
  }
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) {
      return failure(with_remedy(Code::invalid, fmt::format("{} is there and is no socket", path),
                                 "choose another --control"));
    }
    ::unlink(path.c_str());
  }
  Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return failure(system_error("control socket"));
  // Before bind(), so that it is at no time open to others: Linux takes the mode from the socket.
  ::fchmod(fd.get(), 0600);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failure(system_error(fmt::format("control socket {}", path)));
  }
  if (group && (::chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0 ||
                ::chmod(path.c_str(), 0660) != 0)) {
    return failure(system_error(fmt::format("control socket {}: let the group in", path)));
  }
  if (::listen(fd.get(), 16) != 0) return failure(system_error("control socket: listen"));
  return fd;
}

}  // namespace

Json error_answer(const Status& status) {
  const Complaint what = complaint(status);
  Json answer{{"ok", false}, {"code", to_string(status.code())}, {"error", what.cause}};
  if (!what.remedy.empty()) answer["remedy"] = what.remedy;
  return answer;
}

Status answer_status(const Json& answer) {
  if (answer.value("ok", false)) return {};
  const Code code = code_from_string(answer.value("code", "internal"));
  const std::string cause = answer.value("error", "the running ftctl gave no reason");
  const std::string remedy = answer.value("remedy", "");
  return remedy.empty() ? Status(code, cause) : with_remedy(code, cause, remedy);
}

Result<std::unique_ptr<ControlServer>> ControlServer::open(const std::string& path,
                                                           Handler handler) {
  return open_for_group(
      path, std::nullopt,
      [handler = std::move(handler)](const Caller&, const Json& request, const Reply& reply) {
        handler(request, reply);
      });
}

Result<std::unique_ptr<ControlServer>> ControlServer::open_for_group(const std::string& path,
                                                                     std::optional<gid_t> group,
                                                                     CallerHandler handler) {
  FT_ASSIGN(Descriptor socket, listen_at(path, group));
  return std::unique_ptr<ControlServer>(
      new ControlServer(path, std::move(socket), std::move(handler)));
}

ControlServer::ControlServer(std::string path, Descriptor socket, CallerHandler handler)
    : path_(std::move(path)), socket_(std::move(socket)), handler_(std::move(handler)) {
  acceptor_ = std::jthread([this] { accept_clients(); });
}

ControlServer::~ControlServer() {
  stopping_ = true;
  ::shutdown(socket_.get(), SHUT_RDWR);  // Makes accept() return.
  acceptor_.join();
  ::unlink(path_.c_str());
  for (Client& client : clients_) ::shutdown(client.fd.get(), SHUT_RDWR);
  clients_.clear();  // Joins.
}

void ControlServer::accept_clients() {
  while (!stopping_) {
    Descriptor fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) {
      take_client(std::move(fd));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
      ::usleep(100000);  // The connection stays in the queue; do not spin on it.
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void ControlServer::take_client(Descriptor fd) {
  const auto caller = other_end(fd.get());
  if (!caller) return;
  const std::lock_guard lock(mutex_);
  clients_.remove_if([](const Client& client) { return client.done.load(); });
  if (clients_.size() >= kControlClientsMax) {
    (void)send_line(fd.get(), error_answer(Status(Code::busy, "too many control connections")));
    return;
  }
  // A client that reads nothing must not hold its thread for ever.
  const timeval limit{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  Client& client = clients_.emplace_back();
  client.fd = std::move(fd);
  client.caller = *caller;
  client.thread = std::jthread([this, &client] {
    serve(client);
    client.done = true;
  });
}

void ControlServer::serve(Client& client) {
  LineReader reader(client.fd.get(), kRequestBytesMax);
  std::string line;
  while (!stopping_) {
    switch (reader.next(line, -1)) {
      case Got::line: answer_line(client, line); break;
      case Got::too_long:
        (void)send_line(
            client.fd.get(),
            error_answer(Status(Code::invalid, "a request is one line of at most 64 KiB")));
        ::shutdown(client.fd.get(), SHUT_RDWR);
        return;
      case Got::end:
      case Got::timeout: ::shutdown(client.fd.get(), SHUT_RDWR); return;
    }
  }
}

void ControlServer::answer_line(Client& client, const std::string& line) {
  const Json request = Json::parse(line, nullptr, false);
  if (!request.is_object() || !request.contains("command") || !request["command"].is_string()) {
    (void)send_line(client.fd.get(),
                    error_answer(with_remedy(Code::invalid, "not a request",
                                             "one JSON object a line: {\"command\": \"status\"}")));
    return;
  }
  const Reply reply = [&](const Json& answer) {
    return !stopping_ && send_line(client.fd.get(), answer).ok();
  };
  try {
    handler_(client.caller, request, reply);
  } catch (const Json::exception& error) {  // A field of another type than the handler expects.
    reply(error_answer(Status(Code::invalid, fmt::format("not a request: {}", error.what()))));
  }
}

Status ask(const std::string& path, const Json& request, int timeout_ms,
           const std::function<bool(const Json& answer)>& on_answer) {
  FT_ASSIGN(const Descriptor fd, connect_control(path));
  FT_TRY(send_line(fd.get(), request));
  LineReader reader(fd.get(), kAnswerBytesMax);
  for (std::string line;;) {
    switch (reader.next(line, timeout_ms)) {
      case Got::end: return Status(Code::peer_lost, "the running ftctl closed the connection");
      case Got::timeout:
        return Status(Code::timeout, fmt::format("the ftctl at {} gave no answer", path));
      case Got::too_long:
        return Status(Code::corrupt, fmt::format("{} sends no ftctl lines", path));
      case Got::line: break;
    }
    const Json answer = Json::parse(line, nullptr, false);
    if (!answer.is_object()) return Status(Code::corrupt, fmt::format("{} is no ftctl", path));
    if (!on_answer(answer)) return {};
  }
}

Result<Json> ask_once(const std::string& path, const Json& request, int timeout_ms) {
  Json kept;
  FT_TRY(ask(path, request, timeout_ms, [&](const Json& answer) {
    kept = answer;
    return false;
  }));
  return kept;
}

Status ask_to_stop(const std::string& path, int timeout_ms) {
  Status answered;
  const Status asked = ask(path, {{"command", "stop"}}, timeout_ms, [&](const Json& answer) {
    answered = answer_status(answer);
    return false;
  });
  if (asked.code() == Code::peer_lost) return {};
  return asked.ok() ? answered : asked;
}

}  // namespace libft::ftctl
