// SPDX-License-Identifier: LGPL-2.1-or-later
// A RedisClient is the demo's outsider: it keeps one TCP connection open for its whole life, writes
// numbered keys, remembers every acknowledged one, and reads them all back in the end. It never
// reconnects: a reset or an end of the stream is a verdict, not something to handle.
// It owns a thread that lives in the client's network namespace; any thread may call any function.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "demo/history.h"
#include "demo/load_client.h"
#include "demo/resp.h"
#include "libft/types.h"
#include "os/event_fd.h"
#include "os/fd.h"

namespace libft::demo {

struct RedisClientOptions {
  std::string address = "127.0.0.1";  // Numeric IPv4.
  std::uint16_t port = 6379;
  int netns_fd = -1;        // The namespace to connect from; -1: this thread's own.
  std::string token = "t";  // Tells the values of this run from those of another.
  Nanos connect_timeout = std::chrono::seconds{20};
};

struct ReadBack {
  std::uint64_t checked = 0;  // Acknowledged writes asked for.
  std::uint64_t answered = 0;
  std::uint64_t lost = 0;  // Acknowledged, and not there any more or another value.
};

class RedisClient final : public LoadClient {
 public:
  // Tries again until the server accepts, at most `connect_timeout`; the first that works is kept.
  static Result<std::unique_ptr<RedisClient>> connect(const RedisClientOptions& options);
  ~RedisClient() override;

  void offer(Load load, double writes_per_s = 200) override;
  // Code::timeout: some were not answered.
  Status drain(Nanos patience) override;
  // Reads every acknowledged write over the same connection. REQUIRES: drained.
  Result<ReadBack> read_back(Nanos patience);  // Without any answer.

  bool survived() const;
  std::string end_reason() const;  // Empty while it lives.
  std::uint64_t acknowledged() const;
  std::uint64_t errors() const override;
  std::vector<RequestSample> samples() const override;
  Time newest_answer() const;

 private:
  struct Pending {
    bool is_read;
    std::uint64_t number;
  };

  RedisClient(RedisClientOptions options, os::ScopedFd socket, os::EventFd wake);
  void run();
  void enqueue(Time now);
  void send_some();
  void receive_some();
  void take(const Reply& reply, Time now);
  void end(std::string reason);
  Nanos next_wait(Time now) const;

  const RedisClientOptions options_;
  os::ScopedFd socket_;
  os::EventFd wake_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::string end_reason_;
  WriteHistory history_;
  RespReader reader_;
  std::string out_;
  std::deque<Pending> pending_;  // At most kPendingMax.
  Load load_ = Load::none;
  Nanos period_{};
  Time due_;
  Time newest_answer_;
  std::uint64_t errors_ = 0;
  std::deque<std::uint64_t> to_read_;
  ReadBack read_back_;

  std::jthread thread_;  // Last: joined before anything it uses goes.
};

}  // namespace libft::demo
