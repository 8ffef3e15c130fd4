// SPDX-License-Identifier: LGPL-2.1-or-later
// A status as JSON, for monitoring: keys are the names of SessionStatus.
#include <nlohmann/json.hpp>

#include "libft/session.h"

namespace libft {
namespace {

using Json = nlohmann::ordered_json;

Json of(const Percentiles& p) { return {{"p50", p.p50}, {"p99", p.p99}, {"max", p.max}}; }

Json of(const GateStatistics& gate) {
  return {{"packets_held", gate.packets_held},           {"bytes_held", gate.bytes_held},
          {"packets_released", gate.packets_released},   {"packets_dropped", gate.packets_dropped},
          {"packets_discarded", gate.packets_discarded}, {"packets_in", gate.packets_in}};
}

Json of(const CompareStatus& c) {
  return {{"state", c.state},
          {"frames_compared", c.frames_compared},
          {"frames_by_checkpoint", c.frames_by_checkpoint},
          {"differences", c.differences},
          {"timeouts", c.timeouts},
          {"not_understood", c.not_understood},
          {"limits", c.limits},
          {"runs", c.runs},
          {"runs_in_vain", c.runs_in_vain},
          {"reload_ms", of(c.reload_ms)}};
}

}  // namespace

std::string_view to_string(Role role) {
  switch (role) {
    case Role::backup: return "backup";
    case Role::primary: return "primary";
    case Role::fenced: return "fenced";
    case Role::ended: return "ended";
    case Role::failed: return "failed";
  }
  return "unknown";
}

std::string to_json(const SessionStatus& s) {
  Json json = {
      {"guest", s.guest},
      {"host", s.host},
      {"peer", s.peer},
      {"role", to_string(s.role)},
      {"state", s.state},
      {"protected", s.is_protected},
      {"detail", s.detail},
      {"incarnation", to_string(s.self)},
      {"generation", s.generation.value},
      {"epoch_captured", s.epoch_captured},
      {"epoch_acknowledged", s.epoch_acknowledged},
      {"epoch_released", s.epoch_released},
      {"epochs", s.epochs},
      {"sync_round", s.sync_round},
      {"sync_pages_sent", s.sync_pages_sent},
      {"sync_pages_total", s.sync_pages_total},
      {"strategy", s.strategy},
      {"follow_lag_ms", s.follow_lag_ms},
      {"compare", of(s.compare)},
      {"bytes_sent", s.bytes_sent},
      {"bytes_received", s.bytes_received},
      {"pages_sent", s.pages_sent},
      {"pages_zero", s.pages_zero},
      {"pages_delta", s.pages_delta},
      {"pages_raw", s.pages_raw},
      {"handshake_ms", of(s.handshake_ms)},
      {"pause_ms", of(s.pause_ms)},
      {"capture_ms", of(s.capture_ms)},
      {"seal_ms", of(s.seal_ms)},
      {"resume_ms", of(s.resume_ms)},
      {"stopped_ms", of(s.stopped_ms)},
      {"replicate_ms", of(s.replicate_ms)},
      {"acknowledge_ms", of(s.acknowledge_ms)},
      {"release_ms", of(s.release_ms)},
      {"output_held_ms", of(s.output_held_ms)},
      {"dirty_pages", of(s.dirty_pages)},
      {"interval_ms", of(s.interval_ms)},
      {"guest_clock_lag_ms", s.guest_clock_lag_ms},
      {"guest_description", s.guest_description},
      {"tracker", s.tracker},
      {"accelerator", s.accelerator},
      {"transport", s.transport},
      {"arbiter", s.arbiter},
      {"gate", of(s.gate)},
      {"detect_ms", s.detect_ms},
      {"arbitrate_ms", s.arbitrate_ms},
      {"takeover_ms", s.takeover_ms},
      {"load_ms", s.load_ms},
      {"heartbeat_suspicions", s.heartbeat_suspicions},
      {"failovers", s.failovers},
      {"reprotects", s.reprotects},
      {"corrupt_frames", s.corrupt_frames},
      {"reference_bytes", s.reference_bytes},
      {"staging_bytes", s.staging_bytes},
  };
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace libft
