// SPDX-License-Identifier: LGPL-2.1-or-later
// A QuestionClient asks the observer in the guest for nothing, now and then, in datagrams: how an
// otherwise idle guest answers. A question whose answer does not come is an error, and not
// repeated. It owns a thread; any thread may call any function.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "demo/connecting.h"
#include "demo/load_client.h"
#include "os/event_fd.h"

namespace libft::demo {

struct QuestionClientOptions {
  Destination guest;
  Nanos answer_patience = std::chrono::seconds{2};
};

class QuestionClient final : public LoadClient {
 public:
  static Result<std::unique_ptr<QuestionClient>> start(const QuestionClientOptions& options);
  ~QuestionClient() override;

  void offer(Load load, double per_s) override;
  Status drain(Nanos patience) override;
  std::vector<RequestSample> samples() const override;
  std::uint64_t errors() const override;

 private:
  QuestionClient(Nanos answer_patience, os::ScopedFd socket, os::EventFd wake);
  void run();
  void give_up_late(Time now);
  void ask_due(Time now);
  void take_answers();

  const Nanos answer_patience_;
  const os::ScopedFd socket_;
  os::EventFd wake_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  Schedule schedule_;
  std::vector<RequestSample> samples_;
  std::deque<std::uint64_t> open_;  // Asked and not answered, in that order.
  std::uint64_t errors_ = 0;

  std::jthread thread_;  // Last: joined before anything it uses goes.
};

}  // namespace libft::demo
