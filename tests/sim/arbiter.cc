// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/arbiter.h"

namespace libft::sim {

SwapAnswer SimArbiter::swap(const OwnershipRecord& from, const OwnershipRecord& to) {
  if (record_ == from) {
    record_ = to;
    if (landed_) landed_(record_);
    return {SwapOutcome::won, record_, {}};
  }
  // A store that saw the same swap twice may say either.
  if (record_ == to && random_.chance(500)) return {SwapOutcome::won, record_, {}};
  return {SwapOutcome::lost, record_, {}};
}

bool SimArbiter::unanswered(int host) {
  return cut_off[static_cast<std::size_t>(host)] || random_.chance(manners.unknown_permille);
}

void SimArbiter::leave_unanswered(const OwnershipRecord& from, const OwnershipRecord& to,
                                  const std::function<void(SwapAnswer)>& answer) {
  ++unknowns_;
  const bool scripted = next_swap_lands_in.has_value();
  if (!next_swap_never_lands && (scripted || random_.chance(manners.lands_permille))) {
    const Nanos late =
        scripted ? *next_swap_lands_in : random_.between(Nanos{0}, manners.lands_within);
    queue_.in(late, [this, from, to] { swap(from, to); });
  }
  next_swap_lands_in.reset();
  next_swap_never_lands = false;
  queue_.in(random_.between(Millis{20}, Millis{300}), [answer] {
    answer({SwapOutcome::unknown, {}, "no answer"});
  });
}

void SimArbiter::ask_swap(int host, const OwnershipRecord& from, const OwnershipRecord& to,
                          std::function<void(SwapAnswer)> answer) {
  if (next_swap_lands_in || next_swap_never_lands || unanswered(host))
    return leave_unanswered(from, to, answer);
  if (random_.chance(manners.doubled_permille))
    queue_.in(random_.between(Nanos{0}, manners.lands_within),
              [this, from, to] { swap(from, to); });
  queue_.in(random_.between(manners.low, manners.high), [this, from, to, answer] {
    const SwapAnswer result = swap(from, to);
    queue_.in(random_.between(manners.low, manners.high), [answer, result] { answer(result); });
  });
}

void SimArbiter::ask_read(int host, std::function<void(ReadAnswer)> answer) {
  if (unanswered(host)) {
    ++unknowns_;
    queue_.in(random_.between(Millis{20}, Millis{300}), [answer] {
      answer({ReadAnswer::Outcome::unknown, {}, "no answer"});
    });
    return;
  }
  queue_.in(random_.between(manners.low, manners.high), [this, answer] {
    const ReadAnswer result{ReadAnswer::Outcome::found, record_, {}};
    queue_.in(random_.between(manners.low, manners.high), [answer, result] { answer(result); });
  });
}

}  // namespace libft::sim
