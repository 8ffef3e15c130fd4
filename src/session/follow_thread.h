// SPDX-License-Identifier: LGPL-2.1-or-later
// The FollowThread executes logs at the backup while the session's thread goes on acknowledging: an
// acknowledgement says that a log is here, not that it was executed. The session's thread uses it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "strategy/replay/follower.h"
#include "strategy/replay/landmark.h"
#include "strategy/replay/vote.h"

namespace libft::session {

class FollowThread {
 public:
  struct Sinks {                            // Called from its thread; they return quickly.
    std::function<void(EpochId)> followed;  // Executed up to here, and checked.
    std::function<void(Status)> failed;     // Once; nothing is executed after it.
  };

  // Called on its thread before anything is executed; nothing: none is wanted.
  using SetLandmark = std::function<std::unique_ptr<replay::Landmark>()>;
  // Looks at the guest when all that came was executed. Its failure is one of the execution,
  // Code::refused. None: nobody looks.
  using Check = std::function<Status()>;
  // `guest` is loaded with the checkpoint that the logs go on from; there stands the landmark.
  FollowThread(DeterministicGuest& guest, SetLandmark set_landmark, Check check, Sinks sinks);
  ~FollowThread();  // What was not executed is given up.

  // Somebody who goes along with the execution. Called on its thread; `log` and `came_to` return
  // quickly, since the primary's output may wait.
  struct Relay {
    // Once, where the guest stands at the end of that epoch, whose state was compared and is equal.
    // None: it goes along from the next epoch on.
    std::function<void(const wire::LogEpoch&)> begin;
    // From then on, of each epoch, before it is executed here, and after it, equal or not.
    std::function<void(const wire::LogEpoch&)> log;
    std::function<void(const wire::LogEpoch&, const replay::Ballot&)> came_to;
  };
  void relay_to(std::shared_ptr<const Relay> relay);  // Null: to nobody any more.
  // Calls `there` on its thread, once, when nothing is left to execute: the guest stands still.
  void when_idle(std::function<void()> there);

  // After a failure at the end of an epoch: what was executed counts all the same, because others
  // came to the same. Where that is.
  Mark overrule();
  // After a failure: what came behind the epoch that failed.
  std::deque<wire::LogEpoch> take_rest();

  void take(wire::LogEpoch epoch);
  // So much waits that no more ought to be taken.
  bool full() const;
  // Executes what is left, on its thread, and waits for that. Then the guest may go live.
  Status finish();
  std::uint64_t go_live() { return follower_.go_live(); }
  // After a failure, what it can be examined by; none: it cannot. Or after finish(), to be done
  // away with when there is time.
  std::unique_ptr<replay::Landmark> take_landmark();

 private:
  void run();
  void follow_next(std::unique_lock<std::mutex>& lock);
  Status follow(wire::LogEpoch epoch);
  std::shared_ptr<const Relay> relay_before(const wire::LogEpoch& epoch);
  void begin_relay(const wire::LogEpoch& epoch);
  replay::Ballot ballot() const;
  Status check();
  void tell(const Status& outcome);

  SetLandmark set_landmark_;
  Check check_;
  std::vector<EpochId> unchecked_;              // Its thread's.
  std::unique_ptr<replay::Landmark> landmark_;  // Its thread's until it has failed or finished.
  replay::Follower follower_;
  Sinks sinks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<wire::LogEpoch> waiting_;
  std::size_t waiting_bytes_ = 0;
  std::shared_ptr<const Relay> relay_;
  bool relay_begun_ = false;
  std::function<void()> when_idle_;
  bool ending_ = false, finished_ = false;
  Status outcome_;
  std::jthread thread_;
};

}  // namespace libft::session
