// SPDX-License-Identifier: LGPL-2.1-or-later
// Keeps some QEMU processes started that wait for a state. A thread of its own starts them, one at
// a time: that takes a fraction of a second of a processor each. Any thread may take one.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "guest/qemu/qemu_guest.h"

namespace libft::qemu {

struct WarmQemu {
  std::unique_ptr<QemuGuest> guest;
  HostPaths paths;
  std::string log;
};

class WarmPool {
 public:
  // `start` is called on the pool's thread, with a number that grows.
  using Start = std::function<Result<WarmQemu>(unsigned number)>;
  WarmPool(unsigned count, Start start);
  ~WarmPool();  // Ends those that nobody took.
  WarmPool(const WarmPool&) = delete;
  WarmPool& operator=(const WarmPool&) = delete;

  // The oldest one. Waits for it, or for the failure to start one, which is then tried again.
  Result<WarmQemu> take(Nanos patience);

 private:
  void run();

  const unsigned count_;
  const Start start_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WarmQemu> warm_;
  Status trouble_;  // Why the last one did not start.
  bool stopping_ = false;
  std::jthread thread_;
};

// Removes what a process that has ended left on the file system.
void remove_traces(const HostPaths& paths, const std::string& log);

}  // namespace libft::qemu
