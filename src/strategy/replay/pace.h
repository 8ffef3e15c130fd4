// SPDX-License-Identifier: LGPL-2.1-or-later
// How fast the primary may execute, given how far its follower lags: gradually less beyond the
// bound, so that the follower catches up and a promotion has little left to execute. (VMware FT
// slows the primary likewise: Scales et al., section 2.3.) Pure.
#pragma once

#include <algorithm>

#include "libft/types.h"

namespace libft::replay {

constexpr unsigned kPaceLeast = 5;  // Percent: it never stands.

// Percent. All of it up to half the bound, the least from twice the bound on.
inline unsigned pace(Nanos lag, Nanos bound) {
  const double share = double(lag.count()) / double(std::max<Nanos::rep>(bound.count(), 1));
  if (share <= 0.5) return 100;
  const double left = 100 - (share - 0.5) / 1.5 * (100 - kPaceLeast);
  return std::max(kPaceLeast, static_cast<unsigned>(std::max(0.0, left)));
}

}  // namespace libft::replay
