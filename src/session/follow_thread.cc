// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/follow_thread.h"

#include <fmt/format.h>

#include <utility>

#include "os/thread.h"

namespace libft::session {
namespace {

constexpr std::size_t kEpochsMax = 4096;
constexpr std::size_t kBytesMax = 64u << 20;

}  // namespace

FollowThread::FollowThread(DeterministicGuest& guest, SetLandmark set_landmark, Check check,
                           Sinks sinks)
    : set_landmark_(std::move(set_landmark)),
      check_(std::move(check)),
      follower_(guest),
      sinks_(std::move(sinks)) {
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

std::unique_ptr<replay::Landmark> FollowThread::take_landmark() {
  const std::scoped_lock lock(mutex_);
  if (landmark_) landmark_->leave_guest();
  return std::move(landmark_);
}

Status FollowThread::finish() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return finished_; });
  return outcome_;
}

// A landmark that cannot be kept is done without.
Status FollowThread::follow(wire::LogEpoch epoch) {
  const EpochId id = epoch.id;
  const Status followed = follower_.follow(epoch);
  if (followed) {
    unchecked_.push_back(id);
    if (!check_) tell(followed);  // Before the landmark moves, which takes a while.
    if (landmark_ && !landmark_->passed(std::move(epoch))) landmark_.reset();
  } else if (followed.code() != Code::cancelled) {
    if (landmark_ && !landmark_->came_apart(std::move(epoch))) landmark_.reset();
  }
  return followed;
}

Status FollowThread::check() {
  if (!check_) return {};
  const Status found = check_();
  if (found) return {};
  return Status(Code::refused,
                fmt::format("epoch {}: {}", to_string(unchecked_.back()), found.to_string()));
}

void FollowThread::tell(const Status& outcome) {
  if (outcome) {
    for (const EpochId& id : unchecked_) sinks_.followed(id);
    unchecked_.clear();
  } else if (outcome.code() != Code::cancelled) {
    sinks_.failed(outcome);
  }
}

void FollowThread::run() {
  if (set_landmark_) landmark_ = set_landmark_();
  std::unique_lock lock(mutex_);
  while (outcome_) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) break;
    wire::LogEpoch epoch = std::move(waiting_.front());
    waiting_.pop_front();
    waiting_bytes_ -= epoch.coded.size();
    const bool last = waiting_.empty();
    lock.unlock();
    Status outcome = follow(std::move(epoch));
    // One check for all that came while the one before it took place.
    if (outcome && last) outcome = check();
    if (!outcome || last) tell(outcome);
    lock.lock();
    outcome_ = outcome;
  }
  finished_ = true;
  changed_.notify_all();
}

}  // namespace libft::session
