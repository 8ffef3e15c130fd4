// SPDX-License-Identifier: LGPL-2.1-or-later
// A moment for Guest::trial_run() of a standby that nobody else uses.
#pragma once

#include "libft/guest.h"

namespace libft::test {

class NowForTrial final : public StillMoment {
 public:
  explicit NowForTrial(std::span<const std::byte> state) : state_(state) {}
  Result<std::span<const std::byte>> hold() override {
    ++held;
    return state_;
  }
  Status let_go() override {
    ++let_go_of;
    return {};
  }
  int held = 0, let_go_of = 0;

 private:
  std::span<const std::byte> state_;
};

}  // namespace libft::test
