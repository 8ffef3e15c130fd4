// SPDX-License-Identifier: LGPL-2.1-or-later
// What one run of the demo measured, and what a person and a program are told about all of them: a
// line a run, a summary, JSON. Values and functions of values; any thread.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "demo/history.h"
#include "libft/types.h"

namespace libft::demo {

using Json = nlohmann::ordered_json;

enum class Victim { primary, backup, link, path, stall, libft, switchover, corrupt };
std::string_view to_string(Victim victim);
std::optional<Victim> victim_from(std::string_view text);

// One checkpoint, as the `epochs-log` of ftctl has it.
struct EpochSample {
  char host = '?';
  Time paused_at;
  double pause_ms = 0, capture_ms = 0, seal_ms = 0, resume_ms = 0, stopped_ms = 0;
  double replicate_ms = 0, acknowledge_ms = 0, output_held_ms = 0, interval_ms = 0;
  double pages = 0, bytes = 0;
};
// Lines that are not whole (their writer was killed) are left out.
std::vector<EpochSample> parse_epochs(std::string_view json_lines, char host);

struct Mark {
  Time at;
  std::string text;
};

struct RunResult {
  int number = 0;
  Victim victim = Victim::primary;
  std::uint64_t seed = 0;
  std::string arbiter;

  Time started, killed, ended;  // `started`: protected, and under load.
  Time protection_ended;        // Epochs and latencies count until here.
  std::vector<Mark> marks;
  std::vector<RequestSample> writes;
  std::vector<EpochSample> epochs;

  double detect_ms = 0, arbitrate_ms = 0, takeover_ms = 0, load_ms = 0;
  double outage_ms = 0;  // From the failure to a guest that runs, or runs on, alone.
  double client_gap_ms = 0;
  double failure_gap_ms = 0;          // Until it was over: another goes on, the loser is silent.
  double gap_before_ms = 0;           // In as long a time before the failure.
  double guest_clock_lag_ms = 0;      // Over the whole run.
  double lag_while_protected_ms = 0;  // Up to the failure.
  std::uint64_t bytes_sent = 0;
  std::string tracker, accelerator, survivor;

  std::uint64_t writes_acknowledged = 0, writes_checked = 0, writes_lost = 0;
  std::uint64_t outputs_seen = 0, outputs_repeated = 0, outputs_asked = 0, outputs_contradicted = 0;
  bool connection_survived = false;
  // Of --victim corrupt: which replica lost a bit, and what came of it.
  std::string corrupted;                 // "primary", "backup" or "witness".
  bool outvoted = false;                 // It was noticed, and that replica was the odd one.
  std::optional<double> three_again_ms;  // From the lost bit to three replicas that vote.
  std::optional<double> reprotect_ms;    // From the start of the new standby; empty: not tried.
  std::vector<std::string> problems;     // What was not as it must be; empty: all well.
  std::vector<std::string> notes;

  bool good() const;
  bool unseen() const { return victim == Victim::corrupt && !outvoted && problems.empty(); }
  std::vector<EpochSample> protected_epochs() const;
  std::vector<double> protected_latencies() const;
  std::vector<double> protected_round_trips() const;
};

struct RunFigures {  // Derived once from a RunResult.
  std::uint64_t epochs = 0;
  double interval_ms = 0, pages_p50 = 0;
  double stopped_p50 = 0, stopped_p99 = 0;
  double phase_p50[4]{}, phase_p99[4]{};  // pause, capture, seal, resume
  double replicate_p50 = 0, acknowledge_p50 = 0, held_p50 = 0, held_p99 = 0;
  double latency_p50 = 0, latency_p99 = 0, latency_max = 0;
  double round_trip_p50 = 0, round_trip_p99 = 0;
  double gap_round_trips = 0;  // The failure's gap, in round trips (p50); 0: there was none.
};
RunFigures figures_of(const RunResult& run);

std::string header_line();
std::string run_line(const RunResult& run);
std::string summary_text(const std::vector<RunResult>& runs);
Json to_json(const std::vector<RunResult>& runs);

}  // namespace libft::demo
