// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/mailbox.h"

namespace libft::session {

void Mailbox::post(Work work) {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return;
    waiting_.push_back(std::move(work));
  }
  arrived_.notify_one();
}

void Mailbox::take(std::vector<Work>& batch, Nanos wait) {
  batch.clear();
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, wait, [&] { return closed_ || !waiting_.empty(); });
  batch.swap(waiting_);
}

void Mailbox::close() {
  const std::scoped_lock lock(mutex_);
  closed_ = true;
  waiting_.clear();
  arrived_.notify_all();
}

bool Credit::take(std::size_t bytes) {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [&] { return closed_ || left_ > 0; });
  left_ -= static_cast<std::int64_t>(bytes);
  return !closed_;
}

void Credit::give(std::size_t bytes) {
  const std::scoped_lock lock(mutex_);
  left_ += static_cast<std::int64_t>(bytes);
  freed_.notify_one();
}

void Credit::close() {
  const std::scoped_lock lock(mutex_);
  closed_ = true;
  freed_.notify_all();
}

}  // namespace libft::session
