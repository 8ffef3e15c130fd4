// SPDX-License-Identifier: LGPL-2.1-or-later
// The FollowThread executes logs at the backup while the session's thread goes on acknowledging: an
// acknowledgement says that a log is here, not that it was executed. The session's thread uses it.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "strategy/replay/follower.h"

namespace libft::session {

class FollowThread {
 public:
  struct Sinks {                            // Called from its thread; they return quickly.
    std::function<void(EpochId)> followed;  // Executed up to here.
    std::function<void(Status)> failed;     // Once; nothing is executed after it.
  };

  // `guest` is loaded with the checkpoint that the logs go on from.
  FollowThread(DeterministicGuest& guest, Sinks sinks);
  ~FollowThread();  // What was not executed is given up.

  void take(wire::LogEpoch epoch);
  // So much waits that no more ought to be taken.
  bool full() const;
  // Executes what is left, on its thread, and waits for that. Then the guest may go live.
  Status finish();
  std::uint64_t go_live() { return follower_.go_live(); }

 private:
  void run();

  replay::Follower follower_;
  Sinks sinks_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<wire::LogEpoch> waiting_;
  std::size_t waiting_bytes_ = 0;
  bool ending_ = false, finished_ = false;
  Status outcome_;
  std::jthread thread_;
};

}  // namespace libft::session
