// SPDX-License-Identifier: LGPL-2.1-or-later
// What both runners do for their pure machine: its actions in order, and its questions to the
// arbiter, whose answers come back as events. Session's thread.
#pragma once

#include <deque>
#include <utility>

#include "core/action.h"
#include "session/context.h"

namespace libft::session {

// Actions that follow from an action are done after those that were asked for with it.
class ActionQueue {
 public:
  // False: a call further up the stack is at it already, and does these too.
  template <class PerformOne>
  bool run(core::Actions actions, PerformOne&& perform_one) {
    for (auto& action : actions) waiting_.push_back(std::move(action));
    if (running_) return false;
    running_ = true;
    while (!waiting_.empty()) {
      const auto action = std::move(waiting_.front());
      waiting_.pop_front();
      perform_one(action);
    }
    running_ = false;
    return true;
  }

 private:
  std::deque<core::Action> waiting_;
  bool running_ = false;
};

// `answered` is called on the session's thread, unless `posting` was told to forget.
template <class Answered>
void ask(Context& context, const Posting& posting, const core::SwapRecord& swap,
         Answered answered) {
  context.arbiter.post_swap(context.parts.guest, swap.from, swap.to,
                            posting.later<SwapAnswer>(std::move(answered)));
}

template <class Answered>
void ask(Context& context, const Posting& posting, const core::ReadRecord&, Answered answered) {
  context.arbiter.post_read(context.parts.guest, posting.later<ReadAnswer>(std::move(answered)));
}

}  // namespace libft::session
