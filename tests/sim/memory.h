// SPDX-License-Identifier: LGPL-2.1-or-later
// Memory and workers as the simulation hands them in: a StagingArena that keeps what was given
// back, so that 10,000 seeds allocate little, and an Executor that runs its jobs at once, in order.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "libft/executor.h"
#include "libft/staging_arena.h"

namespace libft::sim {

class InlineExecutor final : public Executor {
 public:
  unsigned workers() const override { return 1; }
  void run(std::size_t jobs, const std::function<void(std::size_t)>& job) override {
    for (std::size_t n = 0; n < jobs; ++n) job(n);
  }
};

class PageArena final : public StagingArena {
 public:
  Result<std::span<std::byte>> reserve(std::size_t bytes, std::size_t) override {
    auto& free = free_[bytes];
    if (free.empty()) {
      owned_.push_back(std::make_unique<std::byte[]>(bytes));
      return std::span(owned_.back().get(), bytes);
    }
    std::byte* const at = free.back();
    free.pop_back();
    return std::span(at, bytes);
  }
  void give_back(std::span<std::byte> reserved) override {
    free_[reserved.size()].push_back(reserved.data());
  }

 private:
  std::vector<std::unique_ptr<std::byte[]>> owned_;
  std::map<std::size_t, std::vector<std::byte*>> free_;
};

}  // namespace libft::sim
