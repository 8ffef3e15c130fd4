// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "demo/question_client.h"
#include "demo/statistics.h"
#include "demo/web_client.h"
#include "lab/guest/protocol.h"
#include "os/file.h"
#include "os/real_clock.h"

namespace libft::demo {
namespace {

constexpr double kRowSeconds = 60, kStrategyRowSeconds = 7, kBesideSeconds = 15;
constexpr double kKeptPerS = 50, kFreshPerS = 20, kQuestionsPerS = 10;
constexpr Nanos kSettle = std::chrono::seconds{2};
constexpr Nanos kBeforeFailure = Millis{1500}, kAfterFailure = std::chrono::seconds{2};
constexpr Nanos kAnswerPatience = std::chrono::seconds{30};
constexpr const char* kReplicationCable = "rep0";

Time now() { return os::RealClock().now(); }

// One thing that the guest is asked for, and by whom.
struct Asker {
  std::string what;
  double per_s = 0;
  bool one_at_a_time = true;  // Is that load of interest?
  LoadClient* client = nullptr;
  std::unique_ptr<LoadClient> own;  // Of those that the stage has not got.
};

struct Plan {
  std::string strategy;
  bool unprotected = false;    // Rows without a backup, first.
  bool one_at_a_time = false;  // Rows with one request outstanding, too.
  bool failure = false;        // In the end the primary's host dies.
};

Result<std::vector<Asker>> askers_of(const RunParts& parts, Stage& stage) {
  std::vector<Asker> askers;
  askers.push_back({parts.options.machine ? "key-value server" : "Redis",
                    parts.options.writes_per_s, true, stage.client.get(), nullptr});
  if (parts.options.machine || !parts.options.all_loads) return askers;
  const auto add = [&](std::string what, double per_s, bool one_at_a_time,
                       std::unique_ptr<LoadClient> client) {
    LoadClient* const raw = client.get();
    askers.push_back({std::move(what), per_s, one_at_a_time, raw, std::move(client)});
  };
  WebClientOptions web;
  web.address = lab::kGuestAddress;
  web.netns_fd = stage.world->hosts().client().fd();
  web.connect_timeout = std::chrono::seconds{60};
  FT_ASSIGN(auto kept, WebClient::start(web));
  add("web, connections kept", kKeptPerS, true, std::move(kept));
  web.connections = AfterAnswer::close;
  FT_ASSIGN(auto fresh, WebClient::start(web));
  add("web, a connection each", kFreshPerS, true, std::move(fresh));
  const Destination observer{web.address, LAB_QUERY_PORT, web.netns_fd};
  FT_ASSIGN(auto questions, QuestionClient::start({observer}));
  add("idle", kQuestionsPerS, false, std::move(questions));
  return askers;
}

std::uint64_t wire_bytes(Stage& stage) {
  std::optional<std::uint64_t> bytes;
  stage.world->hosts().host(Side::a).within([&] {
    const auto text = os::read_file("/proc/thread-self/net/dev", 1u << 16);
    if (text) bytes = interface_bytes(*text, kReplicationCable);
  });
  return bytes.value_or(0);
}

// Latencies of what was due in that time, however late it was answered: without those a guest that
// cannot keep up would look fast.
void add_client(BenchRow& row, const LoadClient& client, Time from, Time to) {
  std::vector<double> latencies;
  std::size_t answered = 0;
  for (const RequestSample& request : client.samples()) {
    if (!request.acknowledged) continue;
    if (request.answered >= from && request.answered <= to) ++answered;
    if (request.due >= from && request.due <= to) latencies.push_back(request.latency_ms());
  }
  row.requests_per_s = static_cast<double>(answered) / row.seconds;
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

// What the session counts of frames, since it protects.
struct FrameCounts {
  double compared = 0, by_checkpoint = 0;
};

std::optional<FrameCounts> frame_counts(const Ftctl& primary) {
  const auto status = primary.status();
  if (!status || status->value("strategy", "") != "compare") return std::nullopt;
  const Json counts = status->value("compare", Json::object());
  return FrameCounts{counts.value("frames_compared", 0.0),
                     counts.value("frames_by_checkpoint", 0.0)};
}

void add_frames(BenchRow& row, const std::optional<FrameCounts>& before,
                const std::optional<FrameCounts>& after) {
  if (!before || !after) return;
  row.compared_per_s = (after->compared - before->compared) / row.seconds;
  row.by_checkpoint_per_s = (after->by_checkpoint - before->by_checkpoint) / row.seconds;
}

BenchRow blank_row(const RunParts& parts, const Stage& stage, const Plan& plan, const Asker& asker,
                   Load load) {
  BenchRow row;
  row.guest = parts.options.machine ? "machine" : "QEMU";
  row.asked = asker.what;
  row.is_protected = stage.primary->protects();
  row.what = row.is_protected ? plan.strategy : "unprotected";
  row.load = load;
  row.offered_per_s = asker.per_s;
  row.seconds = parts.options.seconds.value_or(kRowSeconds);
  return row;
}

Result<BenchRow> measure(const RunParts& parts, Stage& stage, const Plan& plan, const Asker& asker,
                         Load load) {
  BenchRow row = blank_row(parts, stage, plan, asker, load);
  parts.say(fmt::format("{}: {}, {}: {} s", row.asked, row.what, row.load_text(), row.seconds));
  const std::uint64_t errors_before = asker.client->errors();
  asker.client->offer(load, asker.per_s);
  FT_TRY(parts.interrupt.sleep(kSettle));
  const auto frames_before = frame_counts(*stage.primary);
  const Time from = now();
  const std::uint64_t bytes_before = wire_bytes(stage);
  FT_TRY(parts.interrupt.sleep(
      std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(row.seconds))));
  const Time to = now();
  row.mb_per_s = static_cast<double>(wire_bytes(stage) - bytes_before) / 1e6 / row.seconds;
  add_frames(row, frames_before, frame_counts(*stage.primary));
  FT_TRY(asker.client->drain(kAnswerPatience));
  if (stage.primary->protects() != row.is_protected) {
    return failure(Code::refused, "protection changed during the row; see " + stage.primary->log);
  }
  row.errors = asker.client->errors() - errors_before;
  add_client(row, *asker.client, from, to);
  if (row.is_protected) add_epochs(row, stage.primary->epochs_log, from, to);
  return row;
}

// The host of the primary dies under all open loads at once; what each client notices of that goes
// into its row.
Status add_failure(const RunParts& parts, Stage& stage, const std::vector<Asker>& askers,
                   std::vector<BenchRow>& rows) {
  parts.say("the primary's host dies");
  for (const Asker& asker : askers) asker.client->offer(Load::open, asker.per_s);
  FT_TRY(parts.interrupt.sleep(kBeforeFailure));
  FT_ASSIGN(const Time killed, stage.world->kill_host(Side::a));
  stage.primary->child->kill_and_reap();
  FT_TRY(parts.interrupt.sleep(kAfterFailure));
  for (const Asker& asker : askers) {
    FT_TRY(asker.client->drain(kAnswerPatience).within(asker.what));
    const double gap = longest_gap_ms(asker.client->samples(), killed, killed + kAfterFailure);
    for (BenchRow& row : rows)
      if (row.is_protected && row.load == Load::open && row.asked == asker.what) row.gap_ms = gap;
  }
  return {};
}

Status add_rows(const RunParts& parts, Stage& stage, const Plan& plan,
                const std::vector<Asker>& askers, std::vector<BenchRow>& rows) {
  for (const Asker& asker : askers) {
    for (const Load load : {Load::open, Load::closed}) {
      if (load == Load::closed && !(plan.one_at_a_time && asker.one_at_a_time)) continue;
      FT_ASSIGN(BenchRow row, measure(parts, stage, plan, asker, load));
      rows.push_back(std::move(row));
    }
  }
  return {};
}

// One stage: its rows without protection, where wanted, and those with it.
Result<std::vector<BenchRow>> bench_stage(const RunParts& parts, const Plan& plan) {
  std::vector<BenchRow> rows;
  FT_ASSIGN(Stage stage, set_stage(parts, "bench"));
  // Random bytes a hundred times a second are no part of any of these loads.
  if (parts.options.all_loads && !parts.options.machine)
    FT_TRY(stage.observer->set_beats(Nanos{0}, kAnswerPatience));
  FT_ASSIGN(const std::vector<Asker> askers, askers_of(parts, stage));
  if (plan.unprotected) FT_TRY(add_rows(parts, stage, plan, askers, rows));
  FT_TRY(protect_stage(parts, stage));
  FT_TRY(add_rows(parts, stage, plan, askers, rows));
  if (plan.failure) FT_TRY(add_failure(parts, stage, askers, rows));
  FT_ASSIGN(const ReadBack found, stage.client->read_back(std::chrono::minutes{5}));
  if (found.lost != 0) return failure(Code::corrupt, fmt::format("{} writes lost", found.lost));
  return rows;
}

// With that strategy and in so many seconds a row, unless options say how many.
Status bench_strategy(const RunParts& parts, const Plan& plan, double seconds,
                      std::vector<BenchRow>& rows) {
  DemoOptions options = parts.options;
  options.strategy = plan.strategy;
  if (!options.seconds) options.seconds = seconds;
  const std::string folder = fmt::format("{}/{}{}", parts.folder, plan.strategy, rows.size());
  std::filesystem::create_directories(folder);
  const RunParts other{options, parts.interrupt, parts.guest, folder, parts.say};
  auto measured = bench_stage(other, plan);
  if (!measured) return measured.error().within(plan.strategy);
  std::move(measured->begin(), measured->end(), std::back_inserter(rows));
  return {};
}

// The rows of one thing that was asked for beside one another.
void sort_by_asked(std::vector<BenchRow>& rows) {
  std::vector<std::string> order;
  for (const BenchRow& row : rows)
    if (std::find(order.begin(), order.end(), row.asked) == order.end()) order.push_back(row.asked);
  const auto place = [&](const BenchRow& row) {
    return std::find(order.begin(), order.end(), row.asked) - order.begin();
  };
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const BenchRow& a, const BenchRow& b) { return place(a) < place(b); });
}

}  // namespace

Result<std::vector<BenchRow>> run_bench(const RunParts& parts) {
  return bench_stage(parts, {parts.options.strategy, true, true, false});
}

Result<std::vector<BenchRow>> run_strategies(const RunParts& parts) {
  std::vector<BenchRow> rows;
  for (const std::string_view strategy : strategies_of(parts.options.machine)) {
    const Plan plan{std::string(strategy), rows.empty(), true, true};
    FT_TRY(bench_strategy(parts, plan, kStrategyRowSeconds, rows));
  }
  sort_by_asked(rows);
  return rows;
}

Result<std::vector<BenchRow>> run_beside(const RunParts& parts) {
  std::vector<BenchRow> rows;
  DemoOptions options = parts.options;
  options.seconds.reset();  // Those of the runs.
  options.all_loads = true;
  const RunParts other{options, parts.interrupt, parts.guest, parts.folder, parts.say};
  FT_TRY(bench_strategy(other, {options.strategy, true, false, false}, kBesideSeconds, rows));
  FT_TRY(bench_strategy(other, {options.beside, false, false, false}, kBesideSeconds, rows));
  sort_by_asked(rows);
  return rows;
}

}  // namespace libft::demo
