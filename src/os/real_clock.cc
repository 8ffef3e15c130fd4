// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/real_clock.h"

#include <ctime>

namespace libft::os {

Time RealClock::now() const {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return Time{std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec}};
}

}  // namespace libft::os
