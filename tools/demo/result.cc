// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/result.h"

#include <fmt/format.h>

#include <algorithm>

#include "demo/statistics.h"

namespace libft::demo {
namespace {

constexpr std::string_view kVictims[] = {"primary", "backup", "link",       "path",
                                         "stall",   "libft",  "switchover", "corrupt"};

template <class Item, class Get>
std::vector<double> values_of(const std::vector<Item>& items, Get get) {
  std::vector<double> values;
  values.reserve(items.size());
  for (const Item& item : items) values.push_back(get(item));
  return values;
}

template <class Get>
double median_of(const std::vector<RunResult>& runs, Get get) {
  return median(values_of(runs, get));
}

template <class Get>
double worst_of(const std::vector<RunResult>& runs, Get get) {
  return percentile(values_of(runs, get), 100);
}

template <class Get>
std::uint64_t sum_of(const std::vector<RunResult>& runs, Get get) {
  std::uint64_t sum = 0;
  for (const RunResult& run : runs) sum += get(run);
  return sum;
}

std::string row(std::string_view name, std::string_view value) {
  return fmt::format("  {:<38} {}\n", name, value);
}

std::string ms(double value) { return fmt::format("{:.1f}", value); }

}  // namespace

std::string_view to_string(Victim victim) { return kVictims[static_cast<std::size_t>(victim)]; }

std::optional<Victim> victim_from(std::string_view text) {
  const auto found = std::find(std::begin(kVictims), std::end(kVictims), text);
  if (found == std::end(kVictims)) return std::nullopt;
  return static_cast<Victim>(found - std::begin(kVictims));
}

std::vector<EpochSample> parse_epochs(std::string_view json_lines, char host) {
  std::vector<EpochSample> epochs;
  for (std::size_t from = 0; from < json_lines.size();) {
    const std::size_t end = std::min(json_lines.find('\n', from), json_lines.size());
    const Json line = Json::parse(json_lines.substr(from, end - from), nullptr, false);
    from = end + 1;
    if (!line.is_object() || !line.contains("stopped_ms")) continue;
    const auto get = [&](const char* key) {
      const auto found = line.find(key);
      return found != line.end() && found->is_number() ? found->get<double>() : 0.0;
    };
    const auto paused = static_cast<std::int64_t>(get("at_ms") * 1e6);
    epochs.push_back({host, Time{Nanos{paused}}, get("pause_ms"), get("capture_ms"), get("seal_ms"),
                      get("resume_ms"), get("stopped_ms"), get("replicate_ms"),
                      get("acknowledge_ms"), get("output_held_ms"), get("interval_ms"),
                      get("pages"), get("bytes")});
  }
  return epochs;
}

bool RunResult::good() const {
  return problems.empty() && writes_lost == 0 && outputs_contradicted == 0 && connection_survived;
}

std::vector<EpochSample> RunResult::protected_epochs() const {
  std::vector<EpochSample> found;
  std::copy_if(epochs.begin(), epochs.end(), std::back_inserter(found), [&](const EpochSample& e) {
    return e.paused_at >= started && e.paused_at < protection_ended;
  });
  return found;
}

std::vector<double> RunResult::protected_latencies() const {
  std::vector<double> found;
  for (const RequestSample& write : writes) {
    if (!write.acknowledged || write.due < started) continue;
    if (write.answered < protection_ended) found.push_back(write.latency_ms());
  }
  return found;
}

std::vector<double> RunResult::protected_round_trips() const {
  std::vector<double> found;
  for (const RequestSample& write : writes)
    if (write.acknowledged && write.sent >= started && write.answered < protection_ended)
      found.push_back(write.round_trip_ms());
  return found;
}

RunFigures figures_of(const RunResult& run) {
  const std::vector<EpochSample> epochs = run.protected_epochs();
  const auto of = [&](double EpochSample::*field, double percent) {
    return percentile(values_of(epochs, [&](const EpochSample& e) { return e.*field; }), percent);
  };
  RunFigures f;
  f.epochs = epochs.size();
  f.interval_ms = of(&EpochSample::interval_ms, 50);
  f.pages_p50 = of(&EpochSample::pages, 50);
  f.stopped_p50 = of(&EpochSample::stopped_ms, 50);
  f.stopped_p99 = of(&EpochSample::stopped_ms, 99);
  double EpochSample::*const phases[] = {&EpochSample::pause_ms, &EpochSample::capture_ms,
                                         &EpochSample::seal_ms, &EpochSample::resume_ms};
  for (int i = 0; i < 4; ++i) {
    f.phase_p50[i] = of(phases[i], 50);
    f.phase_p99[i] = of(phases[i], 99);
  }
  f.replicate_p50 = of(&EpochSample::replicate_ms, 50);
  f.acknowledge_p50 = of(&EpochSample::acknowledge_ms, 50);
  f.held_p50 = of(&EpochSample::output_held_ms, 50);
  f.held_p99 = of(&EpochSample::output_held_ms, 99);
  const std::vector<double> latencies = run.protected_latencies();
  f.latency_p50 = percentile(latencies, 50);
  f.latency_p99 = percentile(latencies, 99);
  f.latency_max = percentile(latencies, 100);
  const std::vector<double> round_trips = run.protected_round_trips();
  f.round_trip_p50 = percentile(round_trips, 50);
  f.round_trip_p99 = percentile(round_trips, 99);
  if (f.round_trip_p50 > 0) f.gap_round_trips = run.failure_gap_ms / f.round_trip_p50;
  return f;
}

std::string header_line() {
  return fmt::format("{:>4}  {:<8}{:>8}{:>10}{:>10}{:>10}{:>9}{:>10}{:>9}{:>8}{:>7}{:>14}  {}\n",
                     "run", "victim", "epochs", "stop p50", "latency", "detect", "arbiter",
                     "takeover", "gap", "writes", "lost", "contradicted", "connection");
}

namespace {

// What a client may see of a switch-over is bounded by its own measure of time.
constexpr double kGapRoundTripsMax = 10;

bool gap_is_short(const RunFigures& f) { return f.gap_round_trips < kGapRoundTripsMax; }

std::string switch_over_line(const RunResult& run) {
  const RunFigures f = figures_of(run);
  return fmt::format(
      "      the client's gap at the switch-over: {:.1f} ms (in as long before: {:.1f}); its round "
      "trip p50 / p99: {:.2f} / {:.2f} ms; gap / p50: {:.1f}, {} {:.0f}\n",
      run.failure_gap_ms, run.gap_before_ms, f.round_trip_p50, f.round_trip_p99, f.gap_round_trips,
      gap_is_short(f) ? "below" : "NOT BELOW", kGapRoundTripsMax);
}

std::string corrupt_line(const RunResult& run) {
  std::string line = fmt::format("      a bit of the {} was flipped: ", run.corrupted);
  if (!run.outvoted) return line + "never seen in what the guest did or was\n";
  line += fmt::format("it was outvoted after {:.1f} ms", run.detect_ms);
  if (run.three_again_ms)
    line += fmt::format(", three replicas voted again after {:.1f} ms", *run.three_again_ms);
  return line + "\n";
}

}  // namespace

std::string run_line(const RunResult& run) {
  const RunFigures f = figures_of(run);
  const std::string line = fmt::format(
      "{:>4}  {:<8}{:>8}{:>10.1f}{:>10.1f}{:>10.1f}{:>9.1f}{:>10.1f}{:>9.1f}{:>8}{:>7}{:>14}  "
      "{}{}\n",
      run.number, to_string(run.victim), f.epochs, f.stopped_p50, f.latency_p50, run.detect_ms,
      run.arbitrate_ms, run.takeover_ms, run.client_gap_ms, run.writes_acknowledged,
      run.writes_lost, run.outputs_contradicted, run.connection_survived ? "survived" : "LOST",
      run.problems.empty() ? "" : "  (" + run.problems.front() + ")");
  if (run.victim == Victim::corrupt) return line + corrupt_line(run);
  return run.victim == Victim::switchover ? line + switch_over_line(run) : line;
}

namespace {

// Where a host's silence is what has to be noticed.
std::string gap_beyond_row(const std::vector<RunResult>& runs) {
  const Victim victim = runs.front().victim;
  if (victim == Victim::switchover || victim == Victim::corrupt) return {};
  const auto beyond = [](const RunResult& run) {
    return run.client_gap_ms - run.detect_ms - run.arbitrate_ms;
  };
  return row("  of it beyond detection and arbiter",
             fmt::format("{} / {}", ms(median_of(runs, beyond)), ms(worst_of(runs, beyond))));
}

std::string switch_over_rows(const std::vector<RunResult>& runs) {
  std::vector<RunFigures> all;
  for (const RunResult& run : runs) all.push_back(figures_of(run));
  const auto each = [&](double RunFigures::*field) {
    return values_of(all, [field](const RunFigures& f) { return f.*field; });
  };
  const auto gaps = [&](double RunResult::*field) {
    return fmt::format("{} / {}", ms(median_of(runs, [=](const auto& run) { return run.*field; })),
                       ms(worst_of(runs, [=](const auto& run) { return run.*field; })));
  };
  const auto ratios = each(&RunFigures::gap_round_trips);
  return row("the client's gap at the switch-over", gaps(&RunResult::failure_gap_ms)) +
         row("  in as long a time before it", gaps(&RunResult::gap_before_ms)) +
         row("its round trip, p50 / p99 (medians)",
             fmt::format("{:.2f} / {:.2f}", median(each(&RunFigures::round_trip_p50)),
                         median(each(&RunFigures::round_trip_p99)))) +
         row("gap / round trip",
             fmt::format("{} / {}, below {:.0f} in {} of {} runs", ms(median(ratios)),
                         ms(percentile(ratios, 100)), kGapRoundTripsMax,
                         std::ranges::count_if(all, gap_is_short), runs.size()));
}

std::string corrupt_rows(const std::vector<RunResult>& runs) {
  std::string out;
  for (const std::string_view who : {"primary", "backup", "witness"}) {
    std::vector<double> seen, again;
    std::size_t hit = 0;
    for (const RunResult& run : runs) {
      if (run.corrupted != who) continue;
      ++hit;
      if (run.outvoted) seen.push_back(run.detect_ms);
      if (run.three_again_ms) again.push_back(*run.three_again_ms);
    }
    if (hit == 0) continue;
    out += row(fmt::format("a bit of the {}: outvoted", who),
               fmt::format("{} of {}, after {} / {}", seen.size(), hit, ms(median(seen)),
                           ms(percentile(seen, 100))));
    out +=
        row("  three replicas again", fmt::format("{} of {}, after {} / {}", again.size(), hit,
                                                  ms(median(again)), ms(percentile(again, 100))));
  }
  const auto unseen = sum_of(runs, [](const RunResult& r) { return r.unseen(); });
  return out + row("never seen in what the guest did or was", fmt::format("{}", unseen));
}

}  // namespace

std::string summary_text(const std::vector<RunResult>& runs) {
  if (runs.empty()) return "no run was completed\n";
  const auto med = [&](double RunFigures::*field) {
    return median_of(runs, [&](const RunResult& run) { return figures_of(run).*field; });
  };
  const auto run_med = [&](double RunResult::*field) {
    return median_of(runs, [&](const RunResult& run) { return run.*field; });
  };
  const auto run_max = [&](double RunResult::*field) {
    return worst_of(runs, [&](const RunResult& run) { return run.*field; });
  };
  std::string out = "\nWhile protected (medians over runs, milliseconds)\n";
  out += row(
      "checkpoints, time between them",
      fmt::format("{}, {}", sum_of(runs, [](const RunResult& r) { return figures_of(r).epochs; }),
                  ms(med(&RunFigures::interval_ms))));
  out += row("guest stopped p50 / p99", fmt::format("{} / {}", ms(med(&RunFigures::stopped_p50)),
                                                    ms(med(&RunFigures::stopped_p99))));
  const char* const phases[] = {"pause", "capture", "seal", "resume"};
  for (int i = 0; i < 4; ++i) {
    out += row(
        fmt::format("  {} p50 / p99", phases[i]),
        fmt::format("{:.2f} / {:.2f}",
                    median_of(runs, [&](const auto& r) { return figures_of(r).phase_p50[i]; }),
                    median_of(runs, [&](const auto& r) { return figures_of(r).phase_p99[i]; })));
  }
  out += row("output held p50 / p99", fmt::format("{} / {}", ms(med(&RunFigures::held_p50)),
                                                  ms(med(&RunFigures::held_p99))));
  out += row("pages a checkpoint", fmt::format("{:.0f}", med(&RunFigures::pages_p50)));
  out += row("client's latency p50 / p99", fmt::format("{} / {}", ms(med(&RunFigures::latency_p50)),
                                                       ms(med(&RunFigures::latency_p99))));
  out += row("guest's clock behind", ms(run_med(&RunResult::guest_clock_lag_ms)));
  out += row("tracker, accelerator", runs.front().tracker + ", " + runs.front().accelerator);
  out += "\nAt the failure (median / worst, milliseconds)\n";
  const auto both = [&](std::string_view name, double RunResult::*field) {
    out += row(name, fmt::format("{} / {}", ms(run_med(field)), ms(run_max(field))));
  };
  both("detect", &RunResult::detect_ms);
  both("win the arbiter", &RunResult::arbitrate_ms);
  both("take over (grant to running)", &RunResult::takeover_ms);
  both("all of it, from failure to running", &RunResult::outage_ms);
  both("longest gap the client saw", &RunResult::client_gap_ms);
  out += gap_beyond_row(runs);
  if (runs.front().victim == Victim::switchover) out += switch_over_rows(runs);
  if (runs.front().victim == Victim::corrupt) out += corrupt_rows(runs);
  out += "\nWhat the world saw\n";
  const auto total = [&](std::uint64_t RunResult::*field) {
    return sum_of(runs, [&](const RunResult& run) { return run.*field; });
  };
  out += row("writes acknowledged", fmt::format("{}", total(&RunResult::writes_acknowledged)));
  out += row("writes lost", fmt::format("{}", total(&RunResult::writes_lost)));
  out += row("outputs seen / asked again", fmt::format("{} / {}", total(&RunResult::outputs_seen),
                                                       total(&RunResult::outputs_asked)));
  out += row("outputs contradicted", fmt::format("{}", total(&RunResult::outputs_contradicted)));
  const auto survived = sum_of(runs, [](const RunResult& r) { return r.connection_survived; });
  out += row("connection survived", fmt::format("{} of {}", survived, runs.size()));
  for (const RunResult& run : runs) {
    for (const std::string& problem : run.problems) {
      out += fmt::format("\nrun {}: {}", run.number, problem);
    }
  }
  return out + "\n";
}

namespace {

Json run_json(const RunResult& run) {
  const RunFigures f = figures_of(run);
  Json marks = Json::array();
  const auto since = [&](Time at) {
    return std::chrono::duration<double, std::milli>(at - run.killed).count();
  };
  for (const Mark& mark : run.marks) marks.push_back({{"ms", since(mark.at)}, {"what", mark.text}});
  Json json = {{"run", run.number},
               {"victim", to_string(run.victim)},
               {"seed", run.seed},
               {"survivor", run.survivor},
               {"epochs", f.epochs},
               {"interval_ms", f.interval_ms},
               {"pause_ms_p50", f.stopped_p50},
               {"pause_ms_p99", f.stopped_p99},
               {"dirty_pages_p50", f.pages_p50},
               {"bytes_sent", run.bytes_sent},
               {"output_held_ms_p50", f.held_p50},
               {"client_latency_ms_p50", f.latency_p50},
               {"client_latency_ms_p99", f.latency_p99},
               {"client_latency_ms_max", f.latency_max},
               {"detect_ms", run.detect_ms},
               {"arbitrate_ms", run.arbitrate_ms},
               {"takeover_ms", run.takeover_ms},
               {"load_ms", run.load_ms},
               {"detect_plus_takeover_ms", run.outage_ms},
               {"client_gap_ms", run.client_gap_ms},
               {"failure_gap_ms", run.failure_gap_ms},
               {"gap_before_ms", run.gap_before_ms},
               {"client_round_trip_ms_p50", f.round_trip_p50},
               {"client_round_trip_ms_p99", f.round_trip_p99},
               {"gap_round_trips", f.gap_round_trips},
               {"writes_acknowledged", run.writes_acknowledged},
               {"writes_checked", run.writes_checked},
               {"writes_lost", run.writes_lost},
               {"outputs_seen", run.outputs_seen},
               {"outputs_repeated", run.outputs_repeated},
               {"outputs_asked", run.outputs_asked},
               {"outputs_contradicted", run.outputs_contradicted},
               {"connection_survived", run.connection_survived},
               {"guest_clock_lag_ms", run.guest_clock_lag_ms},
               {"guest_clock_lag_while_protected_ms", run.lag_while_protected_ms}};
  json["reprotect_ms"] = run.reprotect_ms ? Json(*run.reprotect_ms) : Json();
  if (run.victim == Victim::corrupt) {
    json["corrupted"] = run.corrupted;
    json["outvoted"] = run.outvoted;
    json["three_again_ms"] = run.three_again_ms ? Json(*run.three_again_ms) : Json();
  }
  json["good"] = run.good();
  json["problems"] = run.problems;
  json["notes"] = run.notes;
  json["marks"] = marks;
  return json;
}

}  // namespace

Json to_json(const std::vector<RunResult>& runs) {
  const auto fig = [&](double RunFigures::*field) {
    return median_of(runs, [&](const RunResult& run) { return figures_of(run).*field; });
  };
  const auto med = [&](double RunResult::*field) {
    return median_of(runs, [&](const RunResult& run) { return run.*field; });
  };
  const auto worst = [&](double RunResult::*field) {
    return worst_of(runs, [&](const RunResult& run) { return run.*field; });
  };
  const auto sum = [&](std::uint64_t RunResult::*field) {
    return sum_of(runs, [&](const RunResult& run) { return run.*field; });
  };
  const auto all = [&](bool (*is)(const RunResult&)) {
    return !runs.empty() && std::all_of(runs.begin(), runs.end(), is);
  };
  Json json;
  json["victim"] = runs.empty() ? "" : std::string(to_string(runs.front().victim));
  json["arbiter"] = runs.empty() ? "" : runs.front().arbiter;
  json["runs"] = runs.size();
  json["epochs"] = median_of(
      runs, [](const RunResult& run) { return static_cast<double>(figures_of(run).epochs); });
  json["interval_ms"] = fig(&RunFigures::interval_ms);
  json["pause_ms_p50"] = fig(&RunFigures::stopped_p50);
  json["pause_ms_p99"] = fig(&RunFigures::stopped_p99);
  const char* const phases[] = {"pause", "capture", "seal", "resume"};
  for (int i = 0; i < 4; ++i) {
    json["phases_ms"][phases[i]] = {
        {"p50", median_of(runs, [&](const auto& r) { return figures_of(r).phase_p50[i]; })},
        {"p99", median_of(runs, [&](const auto& r) { return figures_of(r).phase_p99[i]; })}};
  }
  json["replicate_ms_p50"] = fig(&RunFigures::replicate_p50);
  json["acknowledge_ms_p50"] = fig(&RunFigures::acknowledge_p50);
  json["output_held_ms_p50"] = fig(&RunFigures::held_p50);
  json["dirty_pages_p50"] = fig(&RunFigures::pages_p50);
  json["bytes_sent"] =
      median_of(runs, [](const RunResult& run) { return static_cast<double>(run.bytes_sent); });
  json["client_latency_ms_p50"] = fig(&RunFigures::latency_p50);
  json["client_latency_ms_p99"] = fig(&RunFigures::latency_p99);
  json["detect_ms"] = med(&RunResult::detect_ms);
  json["arbitrate_ms"] = med(&RunResult::arbitrate_ms);
  json["takeover_ms"] = med(&RunResult::takeover_ms);
  json["takeover_ms_max"] = worst(&RunResult::takeover_ms);
  // Measured from end to end, so that what lies between the parts (the head start) is in it.
  json["detect_plus_takeover_ms"] = med(&RunResult::outage_ms);
  json["client_gap_ms"] = med(&RunResult::client_gap_ms);
  json["client_gap_ms_max"] = worst(&RunResult::client_gap_ms);
  json["failure_gap_ms"] = med(&RunResult::failure_gap_ms);
  json["failure_gap_ms_max"] = worst(&RunResult::failure_gap_ms);
  json["gap_before_ms"] = med(&RunResult::gap_before_ms);
  json["client_round_trip_ms_p50"] = fig(&RunFigures::round_trip_p50);
  json["client_round_trip_ms_p99"] = fig(&RunFigures::round_trip_p99);
  json["gap_round_trips"] = fig(&RunFigures::gap_round_trips);
  json["gap_round_trips_max"] =
      worst_of(runs, [](const RunResult& run) { return figures_of(run).gap_round_trips; });
  json["writes_acknowledged"] = sum(&RunResult::writes_acknowledged);
  json["writes_lost"] = sum(&RunResult::writes_lost);
  json["outputs_seen"] = sum(&RunResult::outputs_seen);
  json["outputs_contradicted"] = sum(&RunResult::outputs_contradicted);
  json["connection_survived"] = all([](const RunResult& run) { return run.connection_survived; });
  json["guest_clock_lag_ms"] = med(&RunResult::guest_clock_lag_ms);
  json["tracker"] = runs.empty() ? "" : runs.front().tracker;
  json["accelerator"] = runs.empty() ? "" : runs.front().accelerator;
  json["good"] = all([](const RunResult& run) { return run.good(); });
  json["each"] = Json::array();
  for (const RunResult& run : runs) json["each"].push_back(run_json(run));
  return json;
}

}  // namespace libft::demo
