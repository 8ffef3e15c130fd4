// SPDX-License-Identifier: LGPL-2.1-or-later
// ThreadPool is an Executor over threads that wait between runs; the caller is one of the workers.
// One caller at a time, as the port says. A run allocates nothing.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "libft/executor.h"

namespace libft::os {

class ThreadPool final : public Executor {
 public:
  // `workers` counts the caller: 1 starts no thread. 0 means one for each processor that this
  // process may use.
  explicit ThreadPool(unsigned workers = 0);
  ~ThreadPool() override;

  unsigned workers() const override { return static_cast<unsigned>(threads_.size()) + 1; }
  void run(std::size_t jobs, const std::function<void(std::size_t)>& job) override;

 private:
  void work();
  void take_jobs(const std::function<void(std::size_t)>& job, std::size_t jobs);

  std::mutex mutex_;
  std::condition_variable wake_;                           // Another run began, or the pool ends.
  std::condition_variable idle_;                           // The last busy worker is done.
  const std::function<void(std::size_t)>* job_ = nullptr;  // Null between runs.
  std::size_t jobs_ = 0;
  std::uint64_t run_ = 0;  // Counts runs, so that a worker enters each at most once.
  unsigned busy_ = 0;
  bool ending_ = false;
  std::atomic<std::size_t> next_{0};
  std::vector<std::jthread> threads_;
};

}  // namespace libft::os
