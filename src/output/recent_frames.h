// SPDX-License-Identifier: LGPL-2.1-or-later
// RecentFrames remembers the newest frames, in the order in which they came, as far as they fit.
// A gate on standby keeps with it what the world sends to a guest whose host has just died.
// Not thread-safe: its owner locks.
#pragma once

#include <deque>

#include "libft/clock.h"
#include "output/frame_ring.h"

namespace libft::output {

class RecentFrames {
 public:
  // Memory is reserved here, and touched only as far as frames fill it.
  static Result<RecentFrames> create(std::size_t bytes);

  void push(const Frame& frame, Time now);  // REQUIRES: at most kFrameBytesMax.

  // Hands those that came at `since` or later to `take`, a function of a Frame, oldest first, and
  // forgets all.
  template <class Take>
  void drain(Time since, Take&& take) {
    for (; !came_.empty(); pop())
      if (came_.front() >= since) take(frames_.front());
  }

 private:
  explicit RecentFrames(FrameRing frames) : frames_(std::move(frames)) {}
  void pop();

  FrameRing frames_;
  std::deque<Time> came_;  // One for each of them.
};

}  // namespace libft::output
