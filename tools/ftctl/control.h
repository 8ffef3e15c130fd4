// SPDX-License-Identifier: LGPL-2.1-or-later
// The control socket of an ftctl that protects or stands by, and of ftd: a unix socket on which
// other processes ask one JSON object a line and get one or more a line back. It is its owner's
// only (mode 0600) unless ftd lets a group in, and then each caller is told apart. Garbage gets an
// error line and the connection goes on; several clients are served at once, each by a thread of
// its own, so that a `verify` that waits keeps nobody from asking for the status.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "descriptor.h"

namespace libft::ftctl {

using Json = nlohmann::json;

inline constexpr std::size_t kRequestBytesMax = 64u << 10;
inline constexpr std::size_t kAnswerBytesMax = 16u << 20;
inline constexpr std::size_t kControlClientsMax = 32;

Json error_answer(const Status& status);  // {"ok": false, "code": ..., "error": ..., "remedy": ...}
Status answer_status(const Json& answer);

// Who asks, as the kernel has it.
struct Caller {
  uid_t uid = 0;
  pid_t pid = 0;
};

class ControlServer {
 public:
  // Sends one line; false when the client is gone or the server stops.
  using Reply = std::function<bool(const Json& answer)>;
  // Called on a client's thread, for several clients at the same time.
  using Handler = std::function<void(const Json& request, const Reply& reply)>;
  using CallerHandler =
      std::function<void(const Caller& caller, const Json& request, const Reply& reply)>;

  static Result<std::unique_ptr<ControlServer>> open(const std::string& path, Handler handler);
  // `group` may connect too (mode 0660); what it may ask is the handler's decision.
  static Result<std::unique_ptr<ControlServer>> open_for_group(const std::string& path,
                                                               std::optional<gid_t> group,
                                                               CallerHandler handler);
  ~ControlServer();  // Ends all connections, waits for handlers, removes the socket.

  const std::string& path() const { return path_; }

 private:
  struct Client {
    Descriptor fd;
    Caller caller;
    std::atomic<bool> done = false;
    std::jthread thread;
  };

  ControlServer(std::string path, Descriptor socket, CallerHandler handler);
  void accept_clients();
  void take_client(Descriptor fd);
  void serve(Client& client);
  void answer_line(Client& client, const std::string& line);

  std::string path_;
  Descriptor socket_;
  CallerHandler handler_;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::list<Client> clients_;
  std::jthread acceptor_;
};

// Asks the ftctl at `path`; `timeout_ms` covers each answer. `on_answer` returns false to end.
Status ask(const std::string& path, const Json& request, int timeout_ms,
           const std::function<bool(const Json& answer)>& on_answer);
Result<Json> ask_once(const std::string& path, const Json& request, int timeout_ms = 10000);
// ok when it will end, and also when it took the connection and ended without an answer: that is
// what was asked for, whoever asked first. Code::not_found when nobody is there.
Status ask_to_stop(const std::string& path, int timeout_ms);

// Whoever listens at `path` (the process that called listen() there).
Result<Caller> listener_of(const std::string& path);
// A connection for whoever reads it in a loop of its own.
Result<Descriptor> connect_control(const std::string& path);

}  // namespace libft::ftctl
