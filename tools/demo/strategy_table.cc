// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/strategy_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace libft::demo {
namespace {

using Rows = std::vector<BenchRow>;

const BenchRow* find(const Rows& rows, const BenchRow& like, std::string_view what, Load load) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const BenchRow& row) {
    return row.guest == like.guest && row.asked == like.asked && row.what == what &&
           row.load == load;
  });
  return found == rows.end() ? nullptr : &*found;
}

std::string ms(double value) {
  return fmt::format("{:.{}f}", value, value >= 10 ? 0 : value >= 1 ? 1 : 2);
}

std::string ms(double p50, double p99) { return ms(p50) + " / " + ms(p99); }

std::string compared_text(const BenchRow& row) {
  if (!row.compared_per_s || !row.by_checkpoint_per_s) return "";
  const double all = *row.compared_per_s + *row.by_checkpoint_per_s;
  if (all <= 0) return "0";
  return fmt::format("{:.0f} ({:.0f} %)", *row.compared_per_s, 100 * *row.compared_per_s / all);
}

// Of a row with requests one after the other: how many a second, and how much slower than alone.
std::string one_at_a_time(const Rows& rows, const BenchRow& open) {
  const BenchRow* const row = find(rows, open, open.what, Load::closed);
  const BenchRow* const alone = find(rows, open, "unprotected", Load::closed);
  if (row == nullptr) return " | |";
  std::string out = fmt::format(" {:.0f} |", row->requests_per_s);
  if (!row->is_protected || alone == nullptr || row->requests_per_s <= 0) return out + " |";
  return out + fmt::format(" {:.1f} |", alone->requests_per_s / row->requests_per_s);
}

std::string line(const Rows& rows, const BenchRow& row) {
  const BenchRow* const alone = find(rows, row, "unprotected", Load::open);
  const BenchRow* const closed = find(rows, row, row.what, Load::closed);
  std::string out =
      fmt::format("| {}: {}, {} | {} | {} |", row.guest, row.asked, row.load_text(), row.what,
                  ms(row.client_p50, row.client_p99) + " / " + ms(row.client_max));
  const bool adds = row.is_protected && alone != nullptr;
  out += adds ? fmt::format(" {} |", ms(row.client_p50 - alone->client_p50)) : " |";
  out += one_at_a_time(rows, row);
  if (row.is_protected)
    out += fmt::format(" {:.1f} | {} | {} | {:.1f} | {} | {:.2f} | {} |", row.checkpoints_per_s,
                       compared_text(row), ms(row.stopped_p50, row.stopped_p99),
                       row.stopped_percent, ms(row.held_p50, row.held_p99), row.mb_per_s,
                       row.gap_ms ? fmt::format("{:.0f}", *row.gap_ms) : "");
  else
    out += " | | | | | | |";
  return out + fmt::format(" {} |\n", row.errors + (closed != nullptr ? closed->errors : 0));
}

std::string pays_text(const Rows& rows) {
  std::string pays, does_not;
  for (const BenchRow& row : rows) {
    const BenchRow* const other = find(rows, row, "checkpoint", Load::open);
    if (row.what != "compare" || row.load != Load::open || other == nullptr) continue;
    const bool all_answered = row.requests_per_s > 0 && row.errors == 0;
    std::string& list = all_answered && row.client_p50 < other->client_p50 ? pays : does_not;
    list += fmt::format("{}{} ({}, by checkpoints {})", list.empty() ? "" : "; ", row.asked,
                        ms(row.client_p50), ms(other->client_p50));
  }
  if (pays.empty() && does_not.empty()) return "";
  return fmt::format(
      "\nComparing paid (client's p50, milliseconds) for: {}.\n"
      "It did not for: {}.\n",
      pays.empty() ? "nothing" : pays, does_not.empty() ? "nothing" : does_not);
}

}  // namespace

std::string strategy_table(const Rows& rows) {
  std::string out =
      "| guest: asked for | strategy | client ms p50 / p99 / max | added ms p50 "
      "| one at a time, 1/s | slow-down | epochs/s | frames/s by comparison "
      "| guest stopped ms p50 / p99 | % of the time | output held ms p50 / p99 | MB/s on the wire "
      "| gap at failure ms | errors |\n"
      "|---|---|---|---:|---:|---:|---:|---:|---|---:|---|---:|---:|---:|\n";
  for (const BenchRow& row : rows)
    if (row.load == Load::open) out += line(rows, row);
  return out + pays_text(rows);
}

Result<std::string> put_between_marks(std::string_view document, std::string_view name,
                                      std::string_view text) {
  const std::string first = fmt::format("<!-- {} -->", name),
                    last = fmt::format("<!-- /{} -->", name);
  const std::size_t from = document.find(first), to = document.find(last);
  const bool once = from == document.rfind(first) && to == document.rfind(last);
  if (from == document.npos || to == document.npos || !once || to < from)
    return failure(Code::not_found,
                   fmt::format("the lines {} and {} are to be there, once each and in this order; "
                               "remedy: put them where the table is to be",
                               first, last));
  return fmt::format("{}\n{}{}", document.substr(0, from + first.size()), text,
                     document.substr(to));
}

}  // namespace libft::demo
