// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transport/close_after.h"

#include "os/thread.h"

namespace libft::transport {

CloseAfter::CloseAfter(Transport& transport, Nanos timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  thread_ = os::start_thread("ft-deadline", [this, &transport, deadline] {
    std::unique_lock lock(mutex_);
    if (wake_.wait_until(lock, deadline, [this] { return done_; })) return;
    fired_ = true;
    lock.unlock();
    transport.close();
  });
}

CloseAfter::~CloseAfter() {
  std::lock_guard lock(mutex_);
  done_ = true;
  wake_.notify_all();
}

bool CloseAfter::fired() const {
  std::lock_guard lock(mutex_);
  return fired_;
}

}  // namespace libft::transport
