// SPDX-License-Identifier: LGPL-2.1-or-later
// An Executor runs pieces of one computation, on several cores where there are any: page encoding
// uses it. Inline in simulation, a pool in production (src/os). One caller at a time.
#pragma once

#include <cstddef>
#include <functional>

namespace libft {

class Executor {
 public:
  virtual ~Executor() = default;

  virtual unsigned workers() const = 0;  // At least 1.

  // Calls job(0) .. job(jobs-1), in any order, from any worker, and returns when all have returned.
  // A job neither throws nor calls run().
  virtual void run(std::size_t jobs, const std::function<void(std::size_t)>& job) = 0;
};

}  // namespace libft
