// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/thread_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "os/inline_executor.h"

using namespace libft;
using namespace libft::os;

TEST_CASE("every job runs exactly once, in every run") {
  for (const unsigned workers : {1u, 2u, 5u}) {
    ThreadPool pool(workers);
    CHECK(pool.workers() == workers);
    for (const std::size_t jobs : {0u, 1u, 2u, 3u, 1000u}) {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::atomic<int>> ran(jobs);
        pool.run(jobs, [&](std::size_t i) { ++ran[i]; });
        CHECK(std::ranges::all_of(ran, [](auto& count) { return count == 1; }));
      }
    }
  }
}

TEST_CASE("jobs run at the same time as the caller's own") {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  // Each of the two waits for the other: with one thread this would never end.
  pool.run(2, [&](std::size_t) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  CHECK(arrived == 2);
}

TEST_CASE("by default there is at least the caller") { CHECK(ThreadPool().workers() >= 1); }

TEST_CASE("the inline executor keeps the order") {
  InlineExecutor executor;
  std::vector<std::size_t> order;
  executor.run(4, [&](std::size_t i) { order.push_back(i); });
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 3});
  CHECK(executor.workers() == 1);
}
