// SPDX-License-Identifier: LGPL-2.1-or-later
#include "conformance/detector_suite.h"
#include "failover/scripted_detector.h"

namespace libft::conformance {
namespace {

class ScriptedWorld {
 public:
  static std::unique_ptr<ScriptedWorld> create(const DetectorOptions& options) {
    auto world = std::make_unique<ScriptedWorld>();
    world->options_ = options;
    return world;
  }
  Detector& detector() { return detector_; }
  void peer_beats() { detector_.alive(now_ = now_ + Millis{1}); }
  void peer_falls_silent() {
    const Nanos silence = options_.interval * options_.missed_max;
    detector_.suspect(now_ = now_ + silence, silence);
  }
  void peer_hangs() { detector_.suspect(now_ = now_ + options_.stuck_after, Nanos{0}); }

 private:
  DetectorOptions options_;
  Time now_;
  failover::ScriptedDetector detector_;
};

TEST_CASE_TEMPLATE_INVOKE(detector_silence, ScriptedWorld);
TEST_CASE_TEMPLATE_INVOKE(detector_never, ScriptedWorld);
TEST_CASE_TEMPLATE_INVOKE(detector_stuck, ScriptedWorld);
TEST_CASE_TEMPLATE_INVOKE(detector_stop, ScriptedWorld);

}  // namespace
}  // namespace libft::conformance
