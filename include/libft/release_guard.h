// SPDX-License-Identifier: LGPL-2.1-or-later
// A ReleaseGuard is asked by an output gate before each batch that leaves: it says no when the
// session has not been heard of for longer than the detector's limit, because then another replica
// may own the guest by now. The session beats; a gate asks. Any thread, no locks.
#pragma once

#include <atomic>
#include <cstdint>

#include "libft/clock.h"

namespace libft {

class ReleaseGuard {
 public:
  explicit ReleaseGuard(const Clock& clock) : clock_(clock) {}

  // The session's thread looked at its state just now, and may still release.
  void beat() { beaten_.store(clock_.now().since_start.count(), std::memory_order_release); }

  // From now on a silence longer than `limit` says no; zero: never (a guest that runs alone).
  void arm(Nanos limit) { limit_.store(limit.count(), std::memory_order_release); }

  bool may_release() const {
    const auto limit = limit_.load(std::memory_order_acquire);
    if (limit == 0) return true;
    return clock_.now().since_start.count() - beaten_.load(std::memory_order_acquire) <= limit;
  }

 private:
  const Clock& clock_;
  std::atomic<std::int64_t> limit_{0}, beaten_{0};
};

}  // namespace libft
