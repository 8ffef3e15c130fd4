// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/economy.h"

#include <algorithm>

namespace libft::compare {

void Economy::captured(Time now) {
  ++runs_;
  captured_at_ = now;
  runs_at_.reset();
  rest_until_.reset();
}

void Economy::runs(Time now) {
  if (captured_at_) runs_at_ = now;
}

void Economy::ended(Time now, bool in_vain) {
  if (!captured_at_) return;
  const bool paid = !in_vain && runs_at_ && now - *runs_at_ >= *runs_at_ - *captured_at_;
  captured_at_.reset();
  runs_at_.reset();
  if (paid) {
    rest_ = options_.rest;
    return;
  }
  ++in_vain_;
  rest_until_ = now + rest_;
  rest_ = std::min(2 * rest_, options_.rest_max);
}

}  // namespace libft::compare
