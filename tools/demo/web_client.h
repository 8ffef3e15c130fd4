// SPDX-License-Identifier: LGPL-2.1-or-later
// A WebClient asks a web server for one page again and again, by a few connections that it keeps or
// by a new one for each request, and sees that every answer is that page. A connection that breaks
// is an error of the request that it was to answer; the next request opens another one.
// It owns a thread that lives in the client's network namespace; any thread may call any function.
#pragma once

#include <poll.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "demo/http.h"
#include "demo/load_client.h"
#include "os/event_fd.h"
#include "os/fd.h"
#include "os/socket.h"

namespace libft::demo {

struct WebClientOptions {
  std::string address = "127.0.0.1";  // Numeric IPv4.
  std::uint16_t port = 80;
  int netns_fd = -1;  // The namespace to connect from; -1: this thread's own.
  std::string path = "/page";
  AfterAnswer connections = AfterAnswer::keep;
  std::size_t connections_max = 8;  // At once; beyond, requests wait, and are late.
  Nanos connect_timeout = std::chrono::seconds{20};  // Until there is a server.
  Nanos answer_patience = std::chrono::seconds{10};  // A request without an answer has failed.
};

class WebClient final : public LoadClient {
 public:
  // Tries until somebody listens, at most `connect_timeout`.
  static Result<std::unique_ptr<WebClient>> start(const WebClientOptions& options);
  ~WebClient() override;

  void offer(Load load, double per_s) override;
  Status drain(Nanos patience) override;
  std::vector<RequestSample> samples() const override;
  std::uint64_t errors() const override;
  std::string last_error() const;  // Empty: there was none.

 private:
  struct Connection {
    os::ScopedFd socket;                 // Invalid: closed.
    std::optional<std::size_t> request;  // The sample that waits for its answer.
    std::string unsent;
    HttpReader reader;
  };

  WebClient(const WebClientOptions& options, const os::SocketAddress& server, os::EventFd wake);
  void run();
  static pollfd wanted(const Connection& connection);
  void begin_due(Time now);
  void begin(Connection& connection, std::size_t number);
  void give_up_late(Time now);
  void advance(Connection& connection);
  Status exchange(Connection& connection);
  Status take(Connection& connection, const HttpAnswer& answer);
  void fail(Connection& connection, const Status& why);
  std::size_t open() const;  // Due, and not answered or given up.

  const WebClientOptions options_;
  const os::SocketAddress server_;
  const std::string request_;
  os::EventFd wake_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  Schedule schedule_;
  std::vector<Connection> connections_;
  std::vector<RequestSample> samples_;
  std::deque<std::size_t> waiting_;  // Samples that are due, for a connection to be free.
  std::string page_;                 // The first answer's: every other is to be the same.
  std::uint64_t errors_ = 0;
  std::string last_error_;

  std::jthread thread_;  // Last: joined before anything it uses goes.
};

}  // namespace libft::demo
