// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/recent_frames.h"

#include <algorithm>

namespace libft::output {

Result<RecentFrames> RecentFrames::create(std::size_t bytes) {
  FT_ASSIGN(auto frames, FrameRing::create(std::max(bytes, 2 * kFrameBytesMax)));
  return RecentFrames(std::move(frames));
}

void RecentFrames::push(const Frame& frame, Time now) {
  while (!frames_.push(frame)) pop();
  came_.push_back(now);
}

void RecentFrames::pop() {
  frames_.pop();
  came_.pop_front();
}

}  // namespace libft::output
