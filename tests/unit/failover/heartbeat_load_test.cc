// SPDX-License-Identifier: LGPL-2.1-or-later
// Heartbeats at the defaults beside threads that want every processor: no suspicion. Short here;
// the same for minutes belongs to the soak.
#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "failover/heartbeat_detector.h"

using namespace libft;
using namespace libft::failover;

namespace {

class Spinners {
 public:
  Spinners() {
    const unsigned count = 2 * std::max(1u, std::thread::hardware_concurrency());
    for (unsigned i = 0; i < count; ++i)
      threads_.emplace_back([this] {
        std::uint64_t x = 1;
        while (!stop_.load(std::memory_order_relaxed)) x = x * 6364136223846793005u + 1;
        sum_.fetch_add(x);
      });
  }
  ~Spinners() { stop_ = true; }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> sum_{0};
  std::vector<std::jthread> threads_;
};

struct Watch {
  std::mutex mutex;
  std::condition_variable changed;
  bool alive = false;
  int suspicions = 0;
  Nanos silence{0};

  void tell(const DetectorEvent& event) {
    const std::lock_guard lock(mutex);
    alive |= event.kind == DetectorEvent::Kind::alive;
    if (event.kind == DetectorEvent::Kind::suspected) {
      ++suspicions;
      silence = event.silence;
    }
    changed.notify_all();
  }
};

}  // namespace

TEST_CASE("saturated processors are no reason for suspicion") {
  constexpr auto kLoad = std::chrono::seconds{10};
  const GuestId guest = *GuestId::from_name("db");
  const DetectorOptions defaults;
  const auto hub = HeartbeatHub::open({"127.0.0.1:0"}, "key");
  REQUIRE(hub);
  const auto listening = (*hub)->expect(guest, 1, defaults);
  const auto dialling = dial_heartbeats({(*hub)->address()}, guest, 1, "key", defaults);
  REQUIRE(dialling);
  Watch watch;
  const auto sink = [&](DetectorEvent event) { watch.tell(event); };
  const Spinners spinners;
  REQUIRE(listening->start(sink).ok());
  REQUIRE((*dialling)->start(sink).ok());
  const auto end = std::chrono::steady_clock::now() + kLoad;
  std::unique_lock lock(watch.mutex);
  while (watch.suspicions == 0 && std::chrono::steady_clock::now() < end) {
    watch.changed.wait_for(lock, Millis{100});
    listening->progress();
    (*dialling)->progress();
  }
  lock.unlock();
  listening->stop();
  (*dialling)->stop();
  CHECK(watch.alive);
  CHECK_MESSAGE(watch.suspicions == 0, "silent for ", watch.silence / Millis{1}, " ms");
  // 50 ms for ten seconds is 200 each way; half of them would be a loop that does not get to run.
  CHECK((*hub)->counters().heard > 150);
}
