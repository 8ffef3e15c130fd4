// SPDX-License-Identifier: LGPL-2.1-or-later
// The control socket of an ftctl that protects or stands by: a unix socket, mode 0600, on which
// other ftctl processes ask one JSON object a line and get one or more a line back. Garbage gets an
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

class ControlServer {
 public:
  // Sends one line; false when the client is gone or the server stops.
  using Reply = std::function<bool(const Json& answer)>;
  // Called on a client's thread, for several clients at the same time.
  using Handler = std::function<void(const Json& request, const Reply& reply)>;

  static Result<std::unique_ptr<ControlServer>> open(const std::string& path, Handler handler);
  ~ControlServer();  // Ends all connections, waits for handlers, removes the socket.

  const std::string& path() const { return path_; }

 private:
  struct Client {
    Descriptor fd;
    std::atomic<bool> done = false;
    std::jthread thread;
  };

  ControlServer(std::string path, Descriptor socket, Handler handler);
  void accept_clients();
  void take_client(Descriptor fd);
  void serve(Client& client);
  void answer_line(Client& client, const std::string& line);

  std::string path_;
  Descriptor socket_;
  Handler handler_;
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

}  // namespace libft::ftctl
