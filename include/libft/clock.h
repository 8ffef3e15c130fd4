// SPDX-License-Identifier: LGPL-2.1-or-later
// A Clock tells the time that libft measures with: CLOCK_BOOTTIME in production (it counts while
// the host is suspended), virtual in simulation. Any thread.
#pragma once

#include "libft/types.h"

namespace libft {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() const = 0;
};

}  // namespace libft
