// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/bench_row.h"

#include <fmt/format.h>

#include <sstream>

#include "demo/result.h"

namespace libft::demo {

std::string BenchRow::load_text() const {
  if (load == Load::closed) return "one request outstanding";
  return fmt::format("{:g}/s offered", offered_per_s);
}

std::string bench_table(const std::vector<BenchRow>& rows) {
  std::string out =
      "| case | load | requests/s | errors | client ms p50 / p99 / max | checkpoints/s "
      "| stopped ms p50 / p99 | guest stopped % | output held ms p50 / p99 | pages a checkpoint "
      "| MB/s on the wire |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const BenchRow& r : rows) {
    out +=
        fmt::format("| {} | {} | {:.0f} | {} | {:.2g} / {:.3g} / {:.3g} |", r.what, r.load_text(),
                    r.requests_per_s, r.errors, r.client_p50, r.client_p99, r.client_max);
    out += r.is_protected
               ? fmt::format(
                     " {:.1f} | {:.2f} / {:.2f} | {:.2f} | {:.1f} / {:.1f} | {:.0f} | {:.2f} |\n",
                     r.checkpoints_per_s, r.stopped_p50, r.stopped_p99, r.stopped_percent,
                     r.held_p50, r.held_p99, r.pages, r.mb_per_s)
               : " | | | | | |\n";
  }
  return out;
}

std::string beside_text(const std::vector<BenchRow>& rows) {
  std::string out = "\nBeside another strategy (milliseconds)\n";
  const BenchRow* alone = nullptr;
  for (const BenchRow& row : rows) {
    if (alone == nullptr || alone->asked != row.asked) {
      alone = &row;
      out += fmt::format("  {}, {}, {:g} s each\n", row.asked, row.load_text(), row.seconds);
    }
    out += fmt::format("    {:<12} latency p50 / p99: {:.2f} / {:.2f}", row.what, row.client_p50,
                       row.client_p99);
    if (row.is_protected)
      out += fmt::format(", added p50: {:.2f}, {:.1f} checkpoints/s",
                         row.client_p50 - alone->client_p50, row.checkpoints_per_s);
    if (row.compared_per_s)
      out += fmt::format(", {:.0f} frames/s by comparison, {:.0f} by checkpoint",
                         *row.compared_per_s, *row.by_checkpoint_per_s);
    if (row.errors > 0) out += fmt::format(", {} ERRORS", row.errors);
    out += "\n";
  }
  return out;
}

Json to_json(const std::vector<BenchRow>& rows) {
  Json list = Json::array();
  for (const BenchRow& r : rows) {
    Json row = {{"guest", r.guest},
                {"asked", r.asked},
                {"case", r.what},
                {"load", r.load_text()},
                {"seconds", r.seconds},
                {"requests_per_s", r.requests_per_s},
                {"errors", r.errors},
                {"client_latency_ms_p50", r.client_p50},
                {"client_latency_ms_p99", r.client_p99},
                {"client_latency_ms_max", r.client_max}};
    if (r.is_protected)
      row.update({{"checkpoints_per_s", r.checkpoints_per_s},
                  {"pause_ms_p50", r.stopped_p50},
                  {"pause_ms_p99", r.stopped_p99},
                  {"output_held_ms_p50", r.held_p50},
                  {"output_held_ms_p99", r.held_p99},
                  {"dirty_pages_p50", r.pages},
                  {"guest_stopped_percent", r.stopped_percent},
                  {"mb_per_s", r.mb_per_s}});
    if (r.compared_per_s) row["frames_compared_per_s"] = *r.compared_per_s;
    if (r.by_checkpoint_per_s) row["frames_by_checkpoint_per_s"] = *r.by_checkpoint_per_s;
    if (r.gap_ms) row["gap_at_failure_ms"] = *r.gap_ms;
    list.push_back(std::move(row));
  }
  return {{"rows", list}};
}

// "  rep0: BYTES PACKETS and six more of what came in, then BYTES ... of what went out".
std::optional<std::uint64_t> interface_bytes(std::string_view net_dev, std::string_view name) {
  std::istringstream lines{std::string(net_dev)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::size_t from = line.find_first_not_of(' ');
    if (std::string_view(line).substr(from, colon - from) != name) continue;
    std::istringstream fields(line.substr(colon + 1));
    std::uint64_t value = 0, sum = 0;
    for (int field = 0; field <= 8; ++field) {
      if (!(fields >> value)) return std::nullopt;
      if (field == 0 || field == 8) sum += value;
    }
    return sum;
  }
  return std::nullopt;
}

}  // namespace libft::demo
