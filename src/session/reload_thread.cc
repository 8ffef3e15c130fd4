// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/reload_thread.h"

#include <utility>

#include "os/thread.h"

namespace libft::session {

ReloadThread::ReloadThread(compare::Follower& follower, const Clock& clock, Done done)
    : follower_(follower), clock_(clock), done_(std::move(done)) {
  thread_ = os::start_thread("ft-reload", [this] { run(); });
}

ReloadThread::~ReloadThread() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    next_.reset();
  }
  changed_.notify_all();
}

void ReloadThread::give(Order order) {
  {
    const std::scoped_lock lock(mutex_);
    next_ = std::move(order);
  }
  changed_.notify_all();
}

bool ReloadThread::idle() const {
  const std::scoped_lock lock(mutex_);
  return !busy_ && !next_;
}

void ReloadThread::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_ && !next_; });
}

void ReloadThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || next_; });
    if (stopping_) return;
    Order order = *std::exchange(next_, std::nullopt);
    busy_ = true;
    lock.unlock();
    const Time begun = clock_.now();
    Status status;
    if (order.state)
      status = follower_.restart(order.id, *order.state);
    else
      follower_.stop();
    const Nanos took = clock_.now() - begun;
    lock.lock();
    busy_ = false;
    const bool last = !next_;
    lock.unlock();
    changed_.notify_all();
    if (last) done_(std::move(order), std::move(status), took);
    lock.lock();
  }
}

}  // namespace libft::session
