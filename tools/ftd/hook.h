// SPDX-License-Identifier: LGPL-2.1-or-later
// The Hook runs the operator's program once an event, one at a time, on a thread of its own: the
// event as JSON on its standard input, the most wanted of it in the environment. A program that
// hangs is killed after ten seconds. Any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "libft/log.h"

namespace libft::ftd {

class Hook {
 public:
  static constexpr std::size_t kWaitingMax = 256;

  Hook(std::string program, Log& log);  // An empty program: does nothing.
  ~Hook();                              // What waits is still run.

  void run(const nlohmann::json& event);

 private:
  void serve();
  void run_one(const nlohmann::json& event);

  const std::string program_;
  Log& log_;
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<nlohmann::json> waiting_;
  bool stopping_ = false;
  std::jthread thread_;  // Last.
};

}  // namespace libft::ftd
