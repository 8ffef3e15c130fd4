// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/bench.h"

#include <fmt/format.h>

#include <filesystem>
#include <numeric>
#include <span>

#include "demo/history.h"
#include "demo/statistics.h"
#include "os/file.h"
#include "os/real_clock.h"

namespace libft::demo {
namespace {

constexpr double kRowSeconds = 60, kBesideSeconds = 15;
constexpr Load kBoth[] = {Load::open, Load::closed}, kOpen[] = {Load::open};
constexpr Nanos kSettle = std::chrono::seconds{2};
constexpr Nanos kBeforeFailure = Millis{1500}, kAfterFailure = std::chrono::seconds{2};
constexpr Nanos kAnswerPatience = std::chrono::seconds{30};

Time now() { return os::RealClock().now(); }

std::uint64_t bytes_sent(const Ftctl& ftctl) {
  const auto status = ftctl.status();
  return status ? status->value("bytes_sent", std::uint64_t{0}) : 0;
}

void add_client(BenchRow& row, const RedisClient& client, Time from, Time to) {
  std::vector<double> latencies;
  for (const RequestSample& write : client.samples()) {
    if (!write.acknowledged || write.due < from || write.answered > to) continue;
    latencies.push_back(write.latency_ms());
  }
  row.writes_per_s = static_cast<double>(latencies.size()) / row.seconds;
  row.client_p50 = percentile(latencies, 50);
  row.client_p99 = percentile(latencies, 99);
  row.client_max = percentile(latencies, 100);
}

void add_epochs(BenchRow& row, const std::string& log, Time from, Time to) {
  const auto text = os::read_file(log, 256u << 20);
  if (!text) return;
  std::vector<double> stopped, pages, held;
  for (const EpochSample& epoch : parse_epochs(*text, 'A')) {
    if (epoch.paused_at < from || epoch.paused_at > to) continue;
    stopped.push_back(epoch.stopped_ms);
    pages.push_back(epoch.pages);
    held.push_back(epoch.output_held_ms);
  }
  row.checkpoints_per_s = static_cast<double>(stopped.size()) / row.seconds;
  row.stopped_p50 = percentile(stopped, 50);
  row.stopped_p99 = percentile(stopped, 99);
  row.pages = percentile(pages, 50);
  row.stopped_percent = std::accumulate(stopped.begin(), stopped.end(), 0.0) / 10 / row.seconds;
  row.held_p50 = percentile(held, 50);
  row.held_p99 = percentile(held, 99);
}

Result<BenchRow> measure(const RunParts& parts, Stage& stage, Load load) {
  BenchRow row;
  row.is_protected = stage.primary->protects();
  row.what = row.is_protected ? "protected" : "unprotected";
  row.load = load == Load::closed ? "closed" : fmt::format("open {}/s", parts.options.writes_per_s);
  row.seconds = parts.options.seconds.value_or(kRowSeconds);
  parts.say(fmt::format("{}, {}: {} s", row.what, row.load, row.seconds));
  stage.client->offer(load, parts.options.writes_per_s);
  FT_TRY(parts.interrupt.sleep(kSettle));
  const Time from = now();
  const std::uint64_t bytes_before = bytes_sent(*stage.primary);
  FT_TRY(parts.interrupt.sleep(
      std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(row.seconds))));
  const Time to = now();
  row.mb_per_s = static_cast<double>(bytes_sent(*stage.primary) - bytes_before) / 1e6 / row.seconds;
  FT_TRY(stage.client->drain(kAnswerPatience));
  if (stage.primary->protects() != row.is_protected) {
    return failure(Code::refused, "protection changed during the row; see " + stage.primary->log);
  }
  add_client(row, *stage.client, from, to);
  if (row.is_protected) add_epochs(row, stage.primary->epochs_log, from, to);
  return row;
}

// The host of the primary dies under the open load; what the client notices of that.
Result<double> gap_at_failure(const RunParts& parts, Stage& stage) {
  stage.client->offer(Load::open, parts.options.writes_per_s);
  FT_TRY(parts.interrupt.sleep(kBeforeFailure));
  FT_ASSIGN(const Time killed, stage.world->kill_host(Side::a));
  stage.primary->child->kill_and_reap();
  FT_TRY(parts.interrupt.sleep(kAfterFailure));
  FT_TRY(stage.client->drain(kAnswerPatience));
  return longest_gap_ms(stage.client->samples(), killed, killed + kAfterFailure);
}

// One stage: its rows without protection, where wanted, and those with it.
Status bench_stage(const RunParts& parts, bool unprotected, std::span<const Load> loads,
                   std::vector<BenchRow>& rows) {
  FT_ASSIGN(Stage stage, set_stage(parts, "bench"));
  for (const bool with_backup : {false, true}) {
    if (with_backup) FT_TRY(protect_stage(parts, stage));
    if (!with_backup && !unprotected) continue;
    for (const Load load : loads) {
      FT_ASSIGN(BenchRow row, measure(parts, stage, load));
      if (with_backup) row.what = parts.options.strategy;
      rows.push_back(std::move(row));
    }
  }
  if (loads.size() > 1 && parts.options.machine) {
    parts.say("the primary's host dies");
    FT_ASSIGN(rows.back().gap_ms, gap_at_failure(parts, stage));
  }
  FT_ASSIGN(const ReadBack found, stage.client->read_back(std::chrono::minutes{5}));
  if (found.lost != 0) return Status(Code::corrupt, fmt::format("{} writes lost", found.lost));
  return {};
}

// The same with another strategy.
Status bench_strategy(const RunParts& parts, DemoOptions options, const std::string& strategy,
                      bool unprotected, std::span<const Load> loads, std::vector<BenchRow>& rows) {
  options.strategy = strategy;
  const std::string folder = parts.folder + "/" + strategy;
  std::filesystem::create_directories(folder);
  const RunParts other{options, parts.interrupt, parts.guest, folder, parts.say};
  return bench_stage(other, unprotected, loads, rows);
}

}  // namespace

Result<std::vector<BenchRow>> run_bench(const RunParts& parts) {
  std::vector<BenchRow> rows;
  FT_TRY(bench_stage(parts, true, kBoth, rows));
  if (!parts.options.machine) return rows;
  // What can be replayed is measured by the other strategies too, in the same run.
  for (const char* const strategy : {"checkpoint", "hybrid", "replay", "lockstep"}) {
    if (parts.options.strategy == strategy) continue;
    FT_TRY(bench_strategy(parts, parts.options, strategy, false, kBoth, rows));
  }
  return rows;
}

Result<std::vector<BenchRow>> run_beside(const RunParts& parts) {
  std::vector<BenchRow> rows;
  DemoOptions options = parts.options;
  options.seconds = kBesideSeconds;
  FT_TRY(bench_strategy(parts, options, options.strategy, true, kOpen, rows));
  FT_TRY(bench_strategy(parts, options, options.beside, false, kOpen, rows));
  return rows;
}

std::string beside_text(const std::vector<BenchRow>& rows) {
  const BenchRow& alone = rows.front();
  std::string out = fmt::format(
      "\nLatency beside another strategy's (load {}, {:.0f} s each, p50 / p99, milliseconds)\n"
      "  {:<34} {:.2f} / {:.2f}\n",
      alone.load, alone.seconds, alone.what, alone.client_p50, alone.client_p99);
  for (const BenchRow& row : std::span(rows).subspan(1))
    out += fmt::format("  {:<34} {:.2f} / {:.2f}, added p50: {:.2f}\n", row.what, row.client_p50,
                       row.client_p99, row.client_p50 - alone.client_p50);
  return out;
}

std::string bench_table(const std::vector<BenchRow>& rows) {
  std::string out =
      "| case | load | writes/s | client ms p50 / p99 / max | checkpoints/s | stopped ms p50 / p99 "
      "| guest stopped % | output held ms p50 / p99 | pages a checkpoint | MB/s "
      "| gap at failure ms |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const BenchRow& r : rows) {
    out += fmt::format("| {} | {} | {:.0f} | {:.2g} / {:.3g} / {:.3g} |", r.what, r.load,
                       r.writes_per_s, r.client_p50, r.client_p99, r.client_max);
    out +=
        r.is_protected
            ? fmt::format(
                  " {:.1f} | {:.2f} / {:.2f} | {:.2f} | {:.1f} / {:.1f} | {:.0f} | {:.2f} | {} |\n",
                  r.checkpoints_per_s, r.stopped_p50, r.stopped_p99, r.stopped_percent, r.held_p50,
                  r.held_p99, r.pages, r.mb_per_s, r.gap_ms ? fmt::format("{:.0f}", *r.gap_ms) : "")
            : " | | | | | | |\n";
  }
  return out;
}

Json to_json(const std::vector<BenchRow>& rows) {
  Json list = Json::array();
  for (const BenchRow& r : rows) {
    Json row = {{"case", r.what},
                {"load", r.load},
                {"seconds", r.seconds},
                {"writes_per_s", r.writes_per_s},
                {"client_latency_ms_p50", r.client_p50},
                {"client_latency_ms_p99", r.client_p99},
                {"client_latency_ms_max", r.client_max}};
    if (r.is_protected) {
      row.update({{"checkpoints_per_s", r.checkpoints_per_s},
                  {"pause_ms_p50", r.stopped_p50},
                  {"pause_ms_p99", r.stopped_p99},
                  {"output_held_ms_p50", r.held_p50},
                  {"output_held_ms_p99", r.held_p99},
                  {"dirty_pages_p50", r.pages},
                  {"guest_stopped_percent", r.stopped_percent},
                  {"mb_per_s", r.mb_per_s}});
      if (r.gap_ms) row["gap_at_failure_ms"] = *r.gap_ms;
    }
    list.push_back(std::move(row));
  }
  return {{"rows", list}};
}

}  // namespace libft::demo
