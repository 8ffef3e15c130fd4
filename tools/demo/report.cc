// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "demo/chart.h"
#include "demo/statistics.h"

namespace libft::demo {
namespace {

constexpr const char* kStyle = R"(
:root{--ink:#1c2430;--dim:#667085;--line:#e4e7ec;--paper:#fff;--card:#f7f8fa;--blue:#2563eb;
--red:#d92d20;--green:#067647;--c0:#2563eb;--c1:#0d9488;--c2:#d97706;--c3:#9333ea}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--line:#2b3342;--paper:#11161f;
--card:#19202c;--blue:#60a5fa;--red:#f97066;--green:#47cd89;--c0:#60a5fa;--c1:#2dd4bf;--c2:#fbbf24;
--c3:#c084fc}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:36px 24px 60px}
h1{font-size:28px;line-height:1.2;margin:0 0 6px}h2{font-size:18px;margin:38px 0 2px}
p{margin:4px 0 10px;color:var(--dim);max-width:76ch}
.tiles{display:grid;gap:12px;margin:12px 0}
.three{grid-template-columns:repeat(auto-fit,minmax(220px,1fr))}
.five{grid-template-columns:repeat(auto-fit,minmax(160px,1fr))}
.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.tile b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{color:var(--dim);font-size:13px}.good b{color:var(--green)}.bad b{color:var(--red)}
svg{width:100%;height:auto;display:block}
svg text{font:12px system-ui,sans-serif;fill:var(--dim)}
.grid{stroke:var(--line);stroke-width:1}.dot{fill:var(--blue);opacity:.55}
.write{stroke:var(--blue);stroke-width:1.3;opacity:.8}.gap{fill:var(--red);opacity:.1}
line.flag{stroke:var(--dim);stroke-width:1;stroke-dasharray:3 3}text.flag{fill:var(--ink)}
line.fail{stroke:var(--red);stroke-width:2;stroke-dasharray:none}text.fail{fill:var(--red);font-weight:600}
.p0{fill:var(--c0)}.p1{fill:var(--c1)}.p2{fill:var(--c2)}.p3{fill:var(--c3)}
.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 5px 0 14px}
.k0{background:var(--c0);margin-left:0}.k1{background:var(--c1)}.k2{background:var(--c2)}.k3{background:var(--c3)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:var(--dim);font-weight:500;font-size:13px}
)";

double seconds_from(Time zero, Time at) { return std::chrono::duration<double>(at - zero).count(); }

std::string tile(std::string_view value, std::string_view label, std::string_view kind = "") {
  return fmt::format("<div class=\"tile {}\"><b>{}</b><span>{}</span></div>\n", kind,
                     escape_html(value), escape_html(label));
}

std::string tiles(const RunResult& run) {
  const RunFigures f = figures_of(run);
  const auto verdict = [](bool good) { return good ? "good" : "bad"; };
  std::string out = "<div class=\"tiles three\">\n";
  out += tile(fmt::format("{}", run.writes_lost),
              fmt::format("of {} acknowledged writes lost", run.writes_acknowledged),
              verdict(run.writes_lost == 0));
  out += tile(fmt::format("{}", run.outputs_contradicted),
              fmt::format("of {} outputs contradicted", run.outputs_seen),
              verdict(run.outputs_contradicted == 0));
  out += tile(run.connection_survived ? "survived" : "lost", "the one TCP connection",
              verdict(run.connection_survived));
  out += "</div>\n<div class=\"tiles five\">\n";
  out += tile(fmt::format("{:.0f} ms", run.client_gap_ms), "longest gap the client saw");
  out += tile(fmt::format("{:.0f} ms", run.detect_ms), "to notice the failure");
  out += tile(fmt::format("{:.1f} ms", run.arbitrate_ms), "to win the arbiter");
  out += tile(fmt::format("{:.1f} ms", run.takeover_ms), "from the grant to a running guest");
  out += tile(fmt::format("{:.0f} ms", run.outage_ms), "in all, from failure to running");
  out += "</div>\n<div class=\"tiles three\">\n";
  out += tile(fmt::format("{:.1f} / {:.1f} ms", f.stopped_p50, f.stopped_p99),
              "guest stopped, p50 / p99");
  out += tile(fmt::format("{:.1f} / {:.1f} ms", f.latency_p50, f.latency_p99),
              "a write while protected, p50 / p99");
  out += tile(fmt::format("{:.1f} / {:.1f} ms", f.held_p50, f.held_p99),
              "output held for the backup, p50 / p99");
  return out + "</div>\n";
}

void add_flags(Chart& chart, const RunResult& run) {
  for (const Mark& mark : run.marks) {
    const bool failure = mark.at == run.killed;
    chart.flag(seconds_from(run.killed, mark.at), mark.text, failure ? "fail" : "");
  }
}

// From shortly before the load was on to the last write; the reading back is not of interest.
std::pair<double, double> span_of(const RunResult& run) {
  const Time last = run.writes.empty() ? run.ended : run.writes.back().due;
  return {seconds_from(run.killed, run.started) - 0.2, seconds_from(run.killed, last) + 0.3};
}

std::string latency_chart(const RunResult& run) {
  const auto [from, to] = span_of(run);
  double worst = 10;
  for (const RequestSample& write : run.writes) {
    if (write.acknowledged) worst = std::max(worst, write.latency_ms());
  }
  Chart chart({from, to, Scale::linear, "s"}, {0.3, worst * 1.5, Scale::logarithmic, "ms"}, 340);
  // More dots than pixels tell nothing more; those of the failure's two seconds are all drawn.
  const std::size_t step = run.writes.size() / 8000 + 1;
  for (std::size_t i = 0; i < run.writes.size(); ++i) {
    const RequestSample& write = run.writes[i];
    const double at = seconds_from(run.killed, write.due);
    if (!write.acknowledged || at < from || (i % step != 0 && (at < -1 || at > 1))) continue;
    chart.dot(at, write.latency_ms(), "dot");
  }
  add_flags(chart, run);
  return chart.svg("Latency of each write over time");
}

std::string failure_chart(const RunResult& run) {
  const double from = -0.3, to = std::max(0.6, run.client_gap_ms / 1000 * 1.6);
  std::vector<const RequestSample*> shown;
  for (const RequestSample& write : run.writes) {
    const double due = seconds_from(run.killed, write.due);
    if (write.acknowledged && due > from && due < to) shown.push_back(&write);
  }
  if (shown.empty()) return "<p>No write was due around the failure.</p>\n";
  Chart chart({from * 1000, to * 1000, Scale::linear, "ms"},
              {0, static_cast<double>(shown.size()), Scale::linear, "writes"}, 420);
  std::optional<Time> gap_from, gap_to, last;
  double longest = -1;
  for (const RequestSample* write : shown) {
    const double gap = last ? seconds_from(*last, write->answered) : 0;
    if (last && write->answered > run.killed && gap > longest) {
      longest = gap;
      gap_from = last;
      gap_to = write->answered;
    }
    last = write->answered;
  }
  const auto x = [&](Time at) { return seconds_from(run.killed, at) * 1000; };
  if (gap_from) chart.band(x(*gap_from), x(*gap_to), "gap");
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const double y = static_cast<double>(i) + 0.5;
    const double end = std::max(x(shown[i]->answered), x(shown[i]->due) + 0.5);
    chart.segment(x(shown[i]->due), y, end, y, "write");
  }
  for (const Mark& mark : run.marks) {
    chart.flag(x(mark.at), mark.text, mark.at == run.killed ? "fail" : "");
  }
  return chart.svg("Each write around the failure");
}

std::string pause_chart(const RunResult& run) {
  const auto [from, to] = span_of(run);
  std::vector<double> stopped;
  for (const EpochSample& epoch : run.epochs) {
    const double at = seconds_from(run.killed, epoch.paused_at);
    if (at >= from && at <= to) stopped.push_back(epoch.stopped_ms);
  }
  Chart chart({from, to, Scale::linear, "s"},
              {0, std::max(2.0, percentile(stopped, 99.8) * 1.15), Scale::linear, "ms"}, 300);
  for (const EpochSample& e : run.epochs) {
    const double at = seconds_from(run.killed, e.paused_at);
    if (at < from || at > to) continue;
    double below = 0;
    const double phases[] = {e.pause_ms, e.capture_ms, e.seal_ms, e.resume_ms};
    for (int i = 0; i < 4; ++i) {
      chart.bar(at, 1.8, below, below + phases[i], fmt::format("p{}", i));
      below += phases[i];
    }
  }
  add_flags(chart, run);
  return chart.svg("How long the guest was stopped at each checkpoint");
}

std::string figures_table(const RunResult& run) {
  const RunFigures f = figures_of(run);
  std::string out =
      "<div class=\"scroll\"><table><tr><th>figure</th><th>p50</th><th>p99</th></tr>\n";
  const auto row = [&](std::string_view name, std::string p50, std::string p99) {
    out += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n", escape_html(name),
                       escape_html(p50), escape_html(p99));
  };
  const auto ms = [](double value) { return fmt::format("{:.2f} ms", value); };
  const char* const phases[] = {"pause", "capture", "seal", "resume"};
  row("guest stopped at a checkpoint", ms(f.stopped_p50), ms(f.stopped_p99));
  for (int i = 0; i < 4; ++i) {
    row(fmt::format("\u2003{}", phases[i]), ms(f.phase_p50[i]), ms(f.phase_p99[i]));
  }
  row("output held until the backup had its epoch", ms(f.held_p50), ms(f.held_p99));
  row("a write while protected, seen by the client", ms(f.latency_p50), ms(f.latency_p99));
  row("round trip while protected, from the client's sending", ms(f.round_trip_p50),
      ms(f.round_trip_p99));
  row("longest gap at the failure, in round trips (p50)", fmt::format("{:.1f}", f.gap_round_trips),
      "");
  row("time between checkpoints", ms(f.interval_ms), "");
  row("pages written between checkpoints", fmt::format("{:.0f}", f.pages_p50), "");
  row("checkpoints while protected", fmt::format("{}", f.epochs), "");
  row("bytes sent to the backup",
      fmt::format("{:.1f} MB", static_cast<double>(run.bytes_sent) / 1e6), "");
  row("guest's clock behind this machine's, whole run", ms(run.guest_clock_lag_ms), "");
  row("outputs the promoted guest was asked about", fmt::format("{}", run.outputs_asked), "");
  if (run.reprotect_ms)
    row("until protected again", fmt::format("{:.0f} ms", *run.reprotect_ms), "");
  row("dirty pages found by", run.tracker, "");
  row("accelerator", run.accelerator, "");
  row("arbiter", run.arbiter, "");
  return out + "</table></div>\n";
}

std::string runs_table(const std::vector<RunResult>& runs) {
  std::string out =
      "<div class=\"scroll\"><table><tr><th>run</th><th>epochs</th><th>stopped p50</th><th>write "
      "p50</th>"
      "<th>detect</th><th>arbiter</th><th>take-over</th><th>gap</th><th>writes</th><th>lost</th>"
      "<th>contradicted</th><th>connection</th></tr>\n";
  for (const RunResult& run : runs) {
    const RunFigures f = figures_of(run);
    out += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.1f}</td><td>{:.1f}</td><td>{:.0f}</td><td>{:.1f}</td>"
        "<td>{:.1f}</td><td>{:.0f}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        run.number, f.epochs, f.stopped_p50, f.latency_p50, run.detect_ms, run.arbitrate_ms,
        run.takeover_ms, run.client_gap_ms, run.writes_acknowledged, run.writes_lost,
        run.outputs_contradicted, run.connection_survived ? "survived" : "lost");
  }
  return out + "</table></div>\n<p>Times in milliseconds.</p>\n";
}

std::string what_happened(const RunResult& run) {
  const char* who = run.survivor == "A" ? "Host A went on alone" : "Host B took over";
  switch (run.victim) {
    case Victim::primary:
      return fmt::format("Host A was cut off and all its processes killed at one instant. {}.",
                         who);
    case Victim::backup:
      return fmt::format("Host B was cut off and all its processes killed at one instant. {}.",
                         who);
    case Victim::link:
      return fmt::format("Both paths between the hosts were cut. {}; the other did not.", who);
    case Victim::path:
      return "The path that replication took was cut. It went on over the other one.";
    case Victim::stall:
      return fmt::format("All processes of host A were stopped. {}. Then host A woke up.", who);
    case Victim::libft:
      return fmt::format("libft on host A was killed while its guest lived on. {}.", who);
    case Victim::corrupt:
      return fmt::format("A bit of the {}'s memory was flipped. {}.", run.corrupted,
                         run.outvoted ? "It was outvoted by the other two replicas"
                                      : "Nothing of it was ever seen");
    case Victim::switchover: return fmt::format("Somebody asked for a switch-over. {}.", who);
  }
  return {};
}

std::string problems_of(const RunResult& run) {
  std::string out;
  for (const std::string& text : run.problems) {
    out += fmt::format("<p class=\"bad\"><b>{}</b></p>\n", escape_html(text));
  }
  return out;
}

}  // namespace

std::string html_report(const std::vector<RunResult>& runs) {
  auto chosen = std::find_if(runs.begin(), runs.end(), [](const auto& run) { return !run.good(); });
  const RunResult& run = chosen == runs.end() ? runs.front() : *chosen;
  const char* title = run.good() ? "A host failed, and nobody outside could tell"
                                 : "A host failed, and protection did not hold";
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
      "<title>libft demo: {0}</title><style>{1}</style></head><body><main>\n<h1>{2}</h1>\n"
      "<p>A Debian guest with Redis, protected by libft on two hosts, and a client that writes to "
      "it "
      "over one TCP connection. {3} Run {4} of {5}, seed {6}.</p>\n",
      to_string(run.victim), kStyle, title, what_happened(run), run.number, runs.size(), run.seed);
  out += problems_of(run) + tiles(run);
  out +=
      "<h2>What the client saw</h2><p>Each dot is a write: when it was due, and how long its "
      "answer "
      "took. Zero is the failure.</p>\n" +
      latency_chart(run);
  out +=
      "<h2>Around the failure</h2><p>Each line is a write, from the moment it was due to its "
      "answer. "
      "Answers come in steps because output waits until the backup holds what it depends on. The "
      "shaded time is the longest without an answer.</p>\n" +
      failure_chart(run);
  out +=
      "<h2>Checkpoints</h2><p>How long the guest was stopped at each one: "
      "<i class=\"key k0\"></i>pause<i class=\"key k1\"></i>capture<i class=\"key k2\"></i>seal"
      "<i class=\"key k3\"></i>resume</p>\n" +
      pause_chart(run);
  out += "<h2>Figures</h2>\n" + figures_table(run);
  if (runs.size() > 1) out += "<h2>All runs</h2>\n" + runs_table(runs);
  return out + "</main></body></html>\n";
}

}  // namespace libft::demo
