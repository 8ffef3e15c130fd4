// SPDX-License-Identifier: LGPL-2.1-or-later
#include <unistd.h>

#include <atomic>
#include <thread>

#include "conformance/detector_suite.h"
#include "failover/heartbeat_detector.h"

namespace libft::conformance {
namespace {

const GuestId kGuest = *GuestId::from_name("db");
constexpr std::uint64_t kToken = 7;

// The peer's session, as far as heartbeats show it: a count that grows until it hangs.
class Work {
 public:
  explicit Work(Detector& detector)
      : thread_([this, &detector](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            if (!hangs_) detector.progress();
            std::this_thread::sleep_for(Millis{5});
          }
        }) {}
  void hang() { hangs_ = true; }

 private:
  std::atomic<bool> hangs_{false};
  std::jthread thread_;
};

DetectorOptions never_suspects() {
  DetectorOptions options;
  options.interval = Millis{20};
  options.missed_max = 1000;
  options.stuck_after = std::chrono::hours{1};
  return options;
}

// Both sides of heartbeats are detectors: one is tested, the other one is its peer.
class HeartbeatWorld {
 public:
  Detector& detector() { return *tested_; }
  void peer_beats() {
    if (!peer_) peer_ = make_peer();
    REQUIRE(peer_->start([](const DetectorEvent&) {}).ok());
    work_ = std::make_unique<Work>(*peer_);
  }
  void peer_falls_silent() {
    work_.reset();
    peer_.reset();
  }
  void peer_hangs() { work_->hang(); }

 protected:
  virtual ~HeartbeatWorld() = default;
  virtual std::unique_ptr<Detector> make_peer() = 0;
  std::unique_ptr<failover::HeartbeatHub> hub_;
  std::unique_ptr<Detector> tested_, peer_;
  std::unique_ptr<Work> work_;  // Goes before the peer that it works for.

  void listen(const std::string& address) {
    auto hub = failover::HeartbeatHub::open({address}, "key");
    REQUIRE_MESSAGE(hub, (hub ? "" : hub.error().to_string()));
    hub_ = std::move(*hub);
  }
  std::unique_ptr<Detector> dial(const DetectorOptions& options) {
    auto dialled = failover::dial_heartbeats({hub_->address()}, kGuest, kToken, "key", options);
    REQUIRE_MESSAGE(dialled, (dialled ? "" : dialled.error().to_string()));
    return std::move(*dialled);
  }
};

std::string udp() { return "127.0.0.1:0"; }
std::string unix_socket() {
  static int number = 0;
  return "unix:/tmp/libft-detector-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
}

template <std::string (*address)()>
class DialsWorld final : public HeartbeatWorld {
 public:
  static std::unique_ptr<DialsWorld> create(const DetectorOptions& options) {
    auto world = std::make_unique<DialsWorld>();
    world->listen(address());
    world->tested_ = world->dial(options);
    return world;
  }

 private:
  std::unique_ptr<Detector> make_peer() override {
    return hub_->expect(kGuest, kToken, never_suspects());
  }
};

template <std::string (*address)()>
class ListensWorld final : public HeartbeatWorld {
 public:
  static std::unique_ptr<ListensWorld> create(const DetectorOptions& options) {
    auto world = std::make_unique<ListensWorld>();
    world->listen(address());
    world->tested_ = world->hub_->expect(kGuest, kToken, options);
    return world;
  }

 private:
  std::unique_ptr<Detector> make_peer() override { return dial(never_suspects()); }
};

#define FT_EVERY_HEARTBEAT \
  DialsWorld<udp>, ListensWorld<udp>, DialsWorld<unix_socket>, ListensWorld<unix_socket>
TEST_CASE_TEMPLATE_INVOKE(detector_silence, FT_EVERY_HEARTBEAT);
TEST_CASE_TEMPLATE_INVOKE(detector_never, FT_EVERY_HEARTBEAT);
TEST_CASE_TEMPLATE_INVOKE(detector_stuck, FT_EVERY_HEARTBEAT);
TEST_CASE_TEMPLATE_INVOKE(detector_stop, FT_EVERY_HEARTBEAT);

}  // namespace
}  // namespace libft::conformance
