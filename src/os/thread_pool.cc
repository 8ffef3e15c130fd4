// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/thread_pool.h"

#include <fmt/format.h>
#include <sched.h>

#include "os/thread.h"

namespace libft::os {
namespace {

unsigned usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<unsigned>(CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

ThreadPool::ThreadPool(unsigned workers) {
  if (workers == 0) workers = usable_processors();
  threads_.reserve(workers - 1);
  for (unsigned i = 1; i < workers; ++i)
    threads_.push_back(start_thread(fmt::format("ft-worker-{}", i), [this] { work(); }));
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
}

void ThreadPool::run(std::size_t jobs, const std::function<void(std::size_t)>& job) {
  if (jobs <= 1 || threads_.empty()) {
    for (std::size_t i = 0; i < jobs; ++i) job(i);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    job_ = &job;
    jobs_ = jobs;
    next_.store(0, std::memory_order_relaxed);
    ++run_;
  }
  wake_.notify_all();
  take_jobs(job, jobs);
  // Every job is taken now. Whoever took one counts as busy until it returned; a worker that wakes
  // later finds no job_, so `job` may go when this returns.
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return busy_ == 0; });
  job_ = nullptr;
}

void ThreadPool::work() {
  std::unique_lock lock(mutex_);
  for (std::uint64_t seen = 0;;) {
    wake_.wait(lock, [&] { return ending_ || (job_ != nullptr && run_ != seen); });
    if (ending_) return;
    seen = run_;
    const auto* job = job_;
    const std::size_t jobs = jobs_;
    ++busy_;
    lock.unlock();
    take_jobs(*job, jobs);
    lock.lock();
    if (--busy_ == 0) idle_.notify_one();
  }
}

void ThreadPool::take_jobs(const std::function<void(std::size_t)>& job, std::size_t jobs) {
  for (;;) {
    const std::size_t mine = next_.fetch_add(1, std::memory_order_relaxed);
    if (mine >= jobs) return;
    job(mine);
  }
}

}  // namespace libft::os
