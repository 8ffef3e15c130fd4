// SPDX-License-Identifier: LGPL-2.1-or-later
// The report and the JSON, of runs that are made up: what a reader relies on is there, and the file
// is well formed and needs nothing else.
#include "demo/report.h"

#include <doctest/doctest.h>

#include <cmath>
#include <regex>

#include "demo/chart.h"

namespace libft::demo {
namespace {

Time at_ms(int ms) { return Time{Millis{ms}}; }

RunResult made_up(int number) {
  RunResult run;
  run.number = number;
  run.arbiter = "file";
  run.tracker = "userfaultfd";
  run.accelerator = "tcg";
  run.survivor = "B";
  run.started = at_ms(100'000);
  run.killed = run.protection_ended = at_ms(104'000);
  run.ended = at_ms(110'000);
  for (int ms = 100'000; ms < 106'000; ms += 5) {
    const int gap = ms > 103'990 && ms < 104'250 ? 104'250 - ms : 0;
    run.writes.push_back({run.writes.size(), at_ms(ms), at_ms(ms + 12 + gap), true, at_ms(ms + 2)});
    ++run.writes_acknowledged;
  }
  for (int ms = 100'000; ms < 104'000; ms += 25) {
    EpochSample epoch;
    epoch.host = 'A';
    epoch.paused_at = at_ms(ms);
    epoch.pause_ms = 0.5, epoch.capture_ms = 3, epoch.resume_ms = 0.5, epoch.stopped_ms = 4;
    epoch.pages = 250, epoch.interval_ms = 25;
    run.epochs.push_back(epoch);
  }
  run.marks = {{run.started, "protected"}, {run.killed, "primary <fails>"}};
  run.detect_ms = 150 + number, run.arbitrate_ms = 2, run.takeover_ms = 10 * number;
  run.outage_ms = 180 + number;
  run.client_gap_ms = run.failure_gap_ms = 262;
  run.connection_survived = true;
  run.outputs_seen = 500;
  return run;
}

// Tags that are opened are closed, in order: enough to catch a broken page.
bool well_formed(const std::string& html) {
  const std::regex tag("<(/?)([a-z0-9]+)[^>]*?(/?)>");
  std::vector<std::string> open;
  for (auto it = std::sregex_iterator(html.begin(), html.end(), tag); it != std::sregex_iterator();
       ++it) {
    const std::string name = (*it)[2];
    if (name == "meta" || (*it)[3] == "/") continue;
    if ((*it)[1] != "/") {
      open.push_back(name);
    } else if (open.empty() || open.back() != name) {
      return false;
    } else {
      open.pop_back();
    }
  }
  return open.empty();
}

TEST_CASE("the report is one well-formed file that loads nothing") {
  const std::string html = html_report({made_up(1), made_up(2)});
  CHECK(html.find("<!DOCTYPE html>") == 0);
  CHECK(well_formed(html));
  for (const char* loading : {"<script", "src=", "href=", "url(", "@import"}) {
    CHECK_MESSAGE(html.find(loading) == std::string::npos, loading);
  }
  CHECK(html.find("primary &lt;fails&gt;") != std::string::npos);
  CHECK(html.find("nan") == std::string::npos);
  CHECK(html.find("inf<") == std::string::npos);
}

TEST_CASE("the report shows the run that was not good") {
  RunResult bad = made_up(2);
  bad.writes_lost = 3;
  bad.problems = {"the <old> guest still runs"};
  const std::string html = html_report({made_up(1), bad});
  CHECK(html.find("protection did not hold") != std::string::npos);
  CHECK(html.find("the &lt;old&gt; guest still runs") != std::string::npos);
}

TEST_CASE("a run without a single write or epoch still makes a report") {
  RunResult empty;
  empty.killed = empty.started = empty.ended = at_ms(1000);
  CHECK(well_formed(html_report({empty})));
}

TEST_CASE("JSON has the keys that were promised, with medians, sums and the worst") {
  RunResult second = made_up(2), third = made_up(3);
  second.writes_lost = 1;
  third.connection_survived = false;
  const Json json = to_json({made_up(1), second, third});
  for (const char* key : {"epochs",
                          "interval_ms",
                          "pause_ms_p50",
                          "pause_ms_p99",
                          "dirty_pages_p50",
                          "bytes_sent",
                          "client_latency_ms_p50",
                          "client_latency_ms_p99",
                          "detect_ms",
                          "takeover_ms",
                          "client_gap_ms",
                          "client_gap_ms_max",
                          "writes_acknowledged",
                          "writes_lost",
                          "outputs_contradicted",
                          "connection_survived",
                          "guest_clock_lag_ms",
                          "tracker",
                          "accelerator",
                          "runs",
                          "victim",
                          "takeover_ms_max",
                          "detect_plus_takeover_ms"}) {
    CHECK_MESSAGE(json.contains(key), key);
  }
  CHECK(json["runs"] == 3);
  CHECK(json["epochs"] == 160);
  CHECK(json["detect_ms"] == 152);
  CHECK(json["takeover_ms"] == 20);
  CHECK(json["takeover_ms_max"] == 30);
  CHECK(json["detect_plus_takeover_ms"] == 182);
  CHECK(json["writes_lost"] == 1);
  CHECK(json["connection_survived"] == false);
  CHECK(json["good"] == false);
  CHECK(json["client_latency_ms_p50"] == 12);
  CHECK(json["pause_ms_p99"] == 4);
  CHECK(json["client_round_trip_ms_p50"] == 10);
  CHECK(json["gap_round_trips_max"] == 26.2);
  CHECK(to_json(std::vector<RunResult>{made_up(1)})["good"] == true);
}

TEST_CASE("a switch-over is held against the client's own round trip") {
  RunResult slow = made_up(1), quick = made_up(2);
  slow.victim = quick.victim = Victim::switchover;
  quick.failure_gap_ms = 99;  // Of a client whose round trip takes 10 ms.
  CHECK(run_line(slow).find("gap / p50: 26.2, NOT BELOW 10\n") != std::string::npos);
  CHECK(run_line(quick).find("gap / p50: 9.9, below 10\n") != std::string::npos);
  CHECK(summary_text({slow, quick}).find("9.9 / 26.2, below 10 in 1 of 2 runs") !=
        std::string::npos);
  CHECK(run_line(made_up(1)).find("gap / p50") == std::string::npos);
}

TEST_CASE("epoch logs: a torn last line and other lines are left out") {
  const auto epochs = parse_epochs(
      "{\"epoch\":\"1.1\",\"at_ms\":1000.5,\"stopped_ms\":4.5,\"pages\":12}\n"
      "{\"note\":1}\n\n{\"epoch\":\"1.2\",\"at_ms\":1025.5,\"stopp",
      'A');
  REQUIRE(epochs.size() == 1);
  CHECK(epochs[0].paused_at == Time{Nanos{1'000'500'000}});
  CHECK(epochs[0].stopped_ms == 4.5);
  CHECK(epochs[0].pages == 12);
}

TEST_CASE("every victim has a name that is understood") {
  for (const Victim victim : {Victim::primary, Victim::backup, Victim::link, Victim::path,
                              Victim::stall, Victim::libft, Victim::corrupt, Victim::switchover}) {
    CHECK(victim_from(to_string(victim)) == victim);
  }
  CHECK_FALSE(victim_from("guest"));
}

}  // namespace
}  // namespace libft::demo
