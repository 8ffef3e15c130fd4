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
    when_idle_ = nullptr;
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

void FollowThread::relay_to(std::shared_ptr<const Relay> relay) {
  const std::scoped_lock lock(mutex_);
  relay_begun_ = relay && !relay->begin;
  relay_ = std::move(relay);
}

void FollowThread::when_idle(std::function<void()> there) {
  {
    const std::scoped_lock lock(mutex_);
    when_idle_ = std::move(there);
  }
  changed_.notify_all();
}

Mark FollowThread::overrule() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finished_; });  // It has told, and is about to end.
  outcome_ = {};
  return *follower_.came_to();
}

std::deque<wire::LogEpoch> FollowThread::take_rest() {
  const std::scoped_lock lock(mutex_);
  waiting_bytes_ = 0;
  return std::exchange(waiting_, {});
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

std::shared_ptr<const FollowThread::Relay> FollowThread::relay_before(const wire::LogEpoch& epoch) {
  std::shared_ptr<const Relay> relay;
  {
    const std::scoped_lock lock(mutex_);
    if (relay_begun_) relay = relay_;
  }
  if (relay && relay->log) relay->log(epoch);
  return relay;
}

void FollowThread::begin_relay(const wire::LogEpoch& epoch) {
  std::shared_ptr<const Relay> relay;
  {
    const std::scoped_lock lock(mutex_);
    if (!relay_ || relay_begun_ || !epoch.mark.hash) return;
    relay = relay_;
    relay_begun_ = true;
  }
  relay->begin(epoch);
}

replay::Ballot FollowThread::ballot() const {
  const auto& here = follower_.came_to();
  if (!here) return {.executed = false};
  return {true, here->said, here->hash};
}

// A landmark that cannot be kept is done without.
Status FollowThread::follow(wire::LogEpoch epoch) {
  const EpochId id = epoch.id;
  const auto relay = relay_before(epoch);
  const Status followed = follower_.follow(epoch);
  if (followed) {
    unchecked_.push_back(id);
    if (!check_) tell(followed);  // Before the landmark moves, which takes a while.
    if (relay) relay->came_to(epoch, ballot());
    begin_relay(epoch);
    if (landmark_ && !landmark_->passed(std::move(epoch))) landmark_.reset();
  } else if (followed.code() != Code::cancelled) {
    if (relay) relay->came_to(epoch, ballot());
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

void FollowThread::follow_next(std::unique_lock<std::mutex>& lock) {
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

void FollowThread::run() {
  if (set_landmark_) landmark_ = set_landmark_();
  std::unique_lock lock(mutex_);
  while (outcome_) {
    changed_.wait(lock, [this] { return ending_ || !waiting_.empty() || when_idle_; });
    if (!waiting_.empty()) {
      follow_next(lock);
    } else if (const auto there = std::exchange(when_idle_, nullptr)) {
      lock.unlock();
      there();
      lock.lock();
    } else {
      break;
    }
  }
  finished_ = true;
  changed_.notify_all();
}

}  // namespace libft::session
