// SPDX-License-Identifier: LGPL-2.1-or-later
// A Trial runs a copy of a standby guest on a thread of its own, which takes seconds, while the
// session's thread goes on replicating: only while memory is copied do epochs wait. Made, granted
// and destroyed on the session's thread; the guest outlives it.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "libft/guest.h"

namespace libft::session {

class Trial final : private StillMoment {
 public:
  // Called on the trial's thread. After `wanted`, grant() is expected; `over` ends what it granted,
  // and is called once for each grant; `done` comes last, once.
  struct Sinks {
    std::function<void()> wanted, over;
    std::function<void(Status)> done;
  };
  Trial(Guest& guest, Sinks sinks);
  ~Trial() override;  // Gives up what still waits, and waits for what does not.

  // From now until `over`, the guest's memory does not change.
  void grant(std::span<const std::byte> state);
  // There will be no such moment any more. One that was granted is spoilt.
  void cancel(const std::string& why);

 private:
  Result<std::span<const std::byte>> hold() override;
  Status let_go() override;
  void run();

  Guest& guest_;
  const Sinks sinks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool granted_ = false;
  Status cancelled_;  // ok: not.
  std::vector<std::byte> state_;
  std::jthread thread_;  // Last: it uses the rest.
};

}  // namespace libft::session
