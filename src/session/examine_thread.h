// SPDX-License-Identifier: LGPL-2.1-or-later
// The ExamineThread finds out how a follower came apart from its primary, which takes seconds,
// while the session goes on and makes a new backup. Made and destroyed on the session's thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "strategy/replay/landmark.h"

namespace libft::session {

class ExamineThread {
 public:
  // `done` is called on its thread, once, unless it is called off; `info` describes the guest.
  using Done = std::function<void(Result<std::string>)>;
  ExamineThread(std::unique_ptr<replay::Landmark> landmark, const GuestInfo& info, Done done);
  ~ExamineThread();  // Waits some 40 ms at most.

 private:
  void run();

  std::unique_ptr<replay::Landmark> landmark_;
  GuestInfo info_;
  Done done_;
  std::atomic<bool> called_off_{false};
  std::jthread thread_;  // Last: it uses the rest.
};

}  // namespace libft::session
