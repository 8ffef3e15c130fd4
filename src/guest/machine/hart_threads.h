// SPDX-License-Identifier: LGPL-2.1-or-later
// HartThreads does one thing for each of several harts at once: the first on the calling thread,
// the others on threads that wait for it. One thread calls.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace libft::machine {

class HartThreads {
 public:
  explicit HartThreads(unsigned threads);  // Besides the caller's.
  ~HartThreads();
  HartThreads(const HartThreads&) = delete;
  HartThreads& operator=(const HartThreads&) = delete;

  // Calls `work` with each of `harts`, and returns when all have returned. REQUIRES: at most one
  // more than there are threads.
  void run(const std::vector<unsigned>& harts, const std::function<void(unsigned hart)>& work);

 private:
  void serve(unsigned thread);

  const std::vector<unsigned>* harts_ = nullptr;
  const std::function<void(unsigned)>* work_ = nullptr;
  bool stopping_ = false;
  std::atomic<std::uint32_t> call_{0};     // Counts calls of run(), and the end.
  std::atomic<std::uint32_t> working_{0};  // Threads that have not come back.
  std::vector<std::jthread> threads_;      // Last: joined first.
};

}  // namespace libft::machine
