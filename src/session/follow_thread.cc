// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/follow_thread.h"

#include <utility>

#include "os/thread.h"

namespace libft::session {
namespace {

constexpr std::size_t kEpochsMax = 4096;
constexpr std::size_t kBytesMax = 64u << 20;

}  // namespace

FollowThread::FollowThread(DeterministicGuest& guest, Sinks sinks)
    : follower_(guest), sinks_(std::move(sinks)) {
  thread_ = os::start_thread("ft-follow", [this] { run(); });
}

FollowThread::~FollowThread() {
  follower_.interrupt();
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    waiting_.clear();
  }
  changed_.notify_all();
}

void FollowThread::take(wire::LogEpoch epoch) {
  {
    const std::scoped_lock lock(mutex_);
    waiting_bytes_ += epoch.coded.size();
    waiting_.push_back(std::move(epoch));
  }
  changed_.notify_all();
}

bool FollowThread::full() const {
  const std::scoped_lock lock(mutex_);
  return waiting_.size() >= kEpochsMax || waiting_bytes_ >= kBytesMax;
}

Status FollowThread::finish() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return finished_; });
  return outcome_;
}

void FollowThread::run() {
  std::unique_lock lock(mutex_);
  while (outcome_) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) break;
    const wire::LogEpoch epoch = std::move(waiting_.front());
    waiting_.pop_front();
    waiting_bytes_ -= epoch.coded.size();
    lock.unlock();
    const Status followed = follower_.follow(epoch);
    if (followed)
      sinks_.followed(epoch.id);
    else if (followed.code() != Code::cancelled)
      sinks_.failed(followed);
    lock.lock();
    outcome_ = followed;
  }
  finished_ = true;
  changed_.notify_all();
}

}  // namespace libft::session
