// SPDX-License-Identifier: LGPL-2.1-or-later
// CLOCK_BOOTTIME as a Clock. Any thread.
#pragma once

#include "libft/clock.h"

namespace libft::os {

class RealClock final : public Clock {
 public:
  Time now() const override;
};

}  // namespace libft::os
