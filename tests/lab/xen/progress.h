// SPDX-License-Identifier: LGPL-2.1-or-later
// A line with the seconds since the start for each step of a long test, as soon as it is done.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "os/real_clock.h"

namespace libft::lab {

class Progress {
 public:
  void passed(std::string_view step) const {
    const std::chrono::duration<double> took = os::RealClock().now() - began_;
    fmt::print("{:5.1f} s  {}\n", took.count(), step);
    std::fflush(stdout);
  }

 private:
  const Time began_ = os::RealClock().now();
};

}  // namespace libft::lab
