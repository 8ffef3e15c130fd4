// SPDX-License-Identifier: LGPL-2.1-or-later
// The ReloadThread starts the follower of a compared guest anew, from one checkpoint after the
// other, while the session's thread goes on acknowledging: to end one, put its memory back and load
// the next takes from milliseconds to seconds. The session's thread uses it.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "libft/clock.h"
#include "strategy/compare/follower.h"

namespace libft::session {

class ReloadThread {
 public:
  struct Order {
    EpochId id;
    std::optional<std::vector<std::byte>> state;  // Nothing: the follower ends, and none begins.
  };
  // Called from its thread when an order is done and none is left; returns quickly.
  using Done = std::function<void(Order, Status, Nanos took)>;
  ReloadThread(compare::Follower& follower, const Clock& clock, Done done);
  ~ReloadThread();  // Waits for what is being done.

  // In the place of an order that is not begun.
  void give(Order order);
  // While it is not, nobody else touches follower and guest.
  bool idle() const;
  void wait_until_idle();

 private:
  void run();

  compare::Follower& follower_;
  const Clock& clock_;
  const Done done_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Order> next_;
  bool busy_ = false, stopping_ = false;
  std::jthread thread_;
};

}  // namespace libft::session
