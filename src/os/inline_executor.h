// SPDX-License-Identifier: LGPL-2.1-or-later
// InlineExecutor runs every piece in the caller, in order: for simulation and for one core.
#pragma once

#include "libft/executor.h"

namespace libft::os {

class InlineExecutor final : public Executor {
 public:
  unsigned workers() const override { return 1; }
  void run(std::size_t jobs, const std::function<void(std::size_t)>& job) override {
    for (std::size_t i = 0; i < jobs; ++i) job(i);
  }
};

}  // namespace libft::os
