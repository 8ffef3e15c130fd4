// SPDX-License-Identifier: LGPL-2.1-or-later
// The detector of tests and simulations: it suspects when it is told to.
// One thread at a time; the sink is called from whoever tells.
#pragma once

#include <atomic>

#include "libft/detector.h"

namespace libft::failover {

class ScriptedDetector final : public Detector {
 public:
  Status start(std::function<void(DetectorEvent)> sink) override {
    sink_ = std::move(sink);
    return {};
  }
  void stop() override { sink_ = nullptr; }
  void progress() override { ++progress_; }

  // Tells the session so; nothing before start() and after stop().
  void tell(DetectorEvent event) {
    if (sink_) sink_(std::move(event));
  }
  void alive(Time at) { tell({DetectorEvent::Kind::alive, at, Nanos{0}, "scripted"}); }
  void suspect(Time at, Nanos silence) {
    tell({DetectorEvent::Kind::suspected, at, silence, "scripted"});
  }

  bool started() const { return static_cast<bool>(sink_); }
  std::uint64_t progress_seen() const { return progress_; }

 private:
  std::function<void(DetectorEvent)> sink_;
  std::atomic<std::uint64_t> progress_{0};  // progress() may come from any thread.
};

}  // namespace libft::failover
