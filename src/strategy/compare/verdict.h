// SPDX-License-Identifier: LGPL-2.1-or-later
// What comes of a comparison. Values.
#pragma once

#include <string_view>
#include <vector>

#include "libft/compared_gate.h"

namespace libft::compare {

using libft::FrameNo;  // Of the primary's frames: its gate numbers them.

// Why the pair must go on from a checkpoint.
enum class Reason {
  none,
  content_differs,  // The two said different things, or it cannot be told any more.
  not_understood,   // What cannot be compared: a fragment, an option, another protocol.
  no_answer,        // The follower did not say it within the time limit.
  limit,            // Too much to remember.
};
constexpr std::string_view to_string(Reason reason) {
  switch (reason) {
    case Reason::none: return "none";
    case Reason::content_differs: return "content differs";
    case Reason::not_understood: return "not understood";
    case Reason::no_answer: return "no answer";
    case Reason::limit: return "limit";
  }
  return "?";
}

struct Verdict {
  std::vector<FrameNo> release;      // First, in this order.
  Reason checkpoint = Reason::none;  // Then. Nothing is released any more before captured().
};

// One flow's answer about its oldest frame.
enum class Judgement { release, wait, checkpoint };

}  // namespace libft::compare
