// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hart_threads.h"

#include <fmt/format.h>

#include "os/thread.h"

namespace libft::machine {

HartThreads::HartThreads(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i)
    threads_.push_back(os::start_thread(fmt::format("ft-hart{}", i + 1), [this, i] { serve(i); }));
}

HartThreads::~HartThreads() {
  stopping_ = true;
  call_.fetch_add(1);
  call_.notify_all();
}

void HartThreads::serve(unsigned thread) {
  for (std::uint32_t seen = 0;; ++seen) {
    call_.wait(seen);
    if (stopping_) return;
    if (thread + 1 < harts_->size()) (*work_)((*harts_)[thread + 1]);
    if (working_.fetch_sub(1) == 1) working_.notify_all();
  }
}

void HartThreads::run(const std::vector<unsigned>& harts,
                      const std::function<void(unsigned)>& work) {
  harts_ = &harts;
  work_ = &work;
  working_ = static_cast<std::uint32_t>(threads_.size());
  call_.fetch_add(1);
  call_.notify_all();
  work(harts.front());
  while (const std::uint32_t left = working_.load()) working_.wait(left);
}

}  // namespace libft::machine
