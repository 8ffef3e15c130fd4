// SPDX-License-Identifier: LGPL-2.1-or-later
// What every Detector must do, however it hears of its peer. A World is one detector and the peer
// that it watches; each implementation supplies one and runs the suite.
// A World has: a static create(options), detector(), peer_beats() (from now on, and works),
// peer_falls_silent(), peer_hangs() (beats on, but its session stands still).
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "libft/detector.h"

namespace libft::conformance {

// Waits are for events; the deadline is only there to end a broken test.
class Heard {
 public:
  std::function<void(DetectorEvent)> sink() {
    return [this](DetectorEvent event) {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
      changed_.notify_all();
    };
  }
  // The nth event of all is of this kind.
  DetectorEvent expect(std::size_t n, DetectorEvent::Kind kind) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds{30}, [&] { return events_.size() >= n; }));
    INFO("event " << n << ": " << events_[n - 1].detail);
    CHECK(events_[n - 1].kind == kind);
    return events_[n - 1];
  }
  std::size_t count() {
    const std::lock_guard lock(mutex_);
    return events_.size();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<DetectorEvent> events_;
};

// Quick enough to suspect within a test, and slow enough for a busy machine to beat in time.
inline DetectorOptions detector_options() {
  DetectorOptions options;
  options.interval = Millis{20};
  options.missed_max = 50;
  options.stuck_after = std::chrono::hours{1};
  return options;
}

TEST_CASE_TEMPLATE_DEFINE("detector: silence is suspected, and a beat takes it back", World,
                          detector_silence) {
  const DetectorOptions options = detector_options();
  Heard heard;
  auto world = World::create(options);
  REQUIRE(world->detector().start(heard.sink()).ok());
  world->peer_beats();
  heard.expect(1, DetectorEvent::Kind::alive);
  world->peer_falls_silent();
  const DetectorEvent suspected = heard.expect(2, DetectorEvent::Kind::suspected);
  CHECK(suspected.silence >= options.interval * options.missed_max);
  CHECK_FALSE(suspected.detail.empty());
  world->peer_beats();
  const DetectorEvent again = heard.expect(3, DetectorEvent::Kind::alive);
  CHECK(again.at >= suspected.at);
}

TEST_CASE_TEMPLATE_DEFINE("detector: who never beats is suspected, too", World, detector_never) {
  DetectorOptions options = detector_options();
  options.missed_max = 3;
  Heard heard;
  auto world = World::create(options);
  REQUIRE(world->detector().start(heard.sink()).ok());
  world->peer_falls_silent();  // It has never begun.
  heard.expect(1, DetectorEvent::Kind::suspected);
}

TEST_CASE_TEMPLATE_DEFINE("detector: a peer whose work stands still is suspected", World,
                          detector_stuck) {
  DetectorOptions options = detector_options();
  options.missed_max = 45;  // Its heart beats all the time: a second's silence is another test.
  options.stuck_after = Millis{1000};
  Heard heard;
  auto world = World::create(options);
  REQUIRE(world->detector().start(heard.sink()).ok());
  world->peer_beats();
  heard.expect(1, DetectorEvent::Kind::alive);
  world->peer_hangs();
  CHECK_FALSE(heard.expect(2, DetectorEvent::Kind::suspected).detail.empty());
}

TEST_CASE_TEMPLATE_DEFINE("detector: nothing is told after stop", World, detector_stop) {
  DetectorOptions options = detector_options();
  options.missed_max = 3;
  Heard heard;
  auto world = World::create(options);
  world->detector().stop();  // Before it was started: nothing to do.
  REQUIRE(world->detector().start(heard.sink()).ok());
  world->peer_beats();
  heard.expect(1, DetectorEvent::Kind::alive);
  world->detector().stop();
  const std::size_t told = heard.count();
  world->peer_falls_silent();
  // Another detector, in the same time, does suspect a peer that is not there.
  Heard control;
  auto other = World::create(options);
  REQUIRE(other->detector().start(control.sink()).ok());
  other->peer_falls_silent();
  control.expect(1, DetectorEvent::Kind::suspected);
  CHECK(heard.count() == told);
  world->detector().stop();  // Twice is once.
  world->detector().progress();
}

}  // namespace libft::conformance
