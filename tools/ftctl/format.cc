// SPDX-License-Identifier: LGPL-2.1-or-later
#include "format.h"

#include <fmt/format.h>

#include <algorithm>

namespace libft::ftctl {

namespace {

std::string text_of(const Json& status, const char* key) {
  const auto found = status.find(key);
  if (found == status.end()) return {};
  return found->is_string() ? found->get<std::string>() : found->dump();
}

double number_of(const Json& status, const char* key) {
  const auto found = status.find(key);
  return found != status.end() && found->is_number() ? found->get<double>() : 0;
}

double number_of(const Json& status, const char* key, const char* part) {
  const auto found = status.find(key);
  return found != status.end() && found->is_object() ? number_of(*found, part) : 0;
}

void line(std::string& out, std::string_view label, const std::string& text) {
  if (!text.empty()) out += fmt::format("  {:16} {}\n", label, text);
}

std::string spread(const Json& status, const char* key) {
  return fmt::format("p50 {:.2f}  p99 {:.2f}  max {:.2f}", number_of(status, key, "p50"),
                     number_of(status, key, "p99"), number_of(status, key, "max"));
}

void epochs(std::string& out, const Json& status) {
  if (number_of(status, "epochs") == 0) return;
  line(out, "epochs",
       fmt::format("{:.0f}; captured {:.0f}, acknowledged {:.0f}, released {:.0f}",
                   number_of(status, "epochs"), number_of(status, "epoch_captured"),
                   number_of(status, "epoch_acknowledged"), number_of(status, "epoch_released")));
  if (text_of(status, "role") != "primary") return;
  line(out, "stopped ms", spread(status, "stopped_ms"));
  for (const char* phase : {"pause_ms", "capture_ms", "seal_ms", "resume_ms"}) {
    line(out, fmt::format("  {}", std::string(phase).substr(0, std::string(phase).size() - 3)),
         spread(status, phase));
  }
  line(out, "output held ms", spread(status, "output_held_ms"));
  line(out, "dirty pages", spread(status, "dirty_pages"));
  line(out, "interval ms", spread(status, "interval_ms"));
}

void takeover(std::string& out, const Json& status) {
  if (number_of(status, "failovers") == 0) return;
  line(out, "last take-over",
       fmt::format("detected in {:.1f} ms, arbiter {:.1f} ms, taken over in {:.1f} ms",
                   number_of(status, "detect_ms"), number_of(status, "arbitrate_ms"),
                   number_of(status, "takeover_ms")));
}

}  // namespace

bool counts_as_protected(const Json& status) {
  if (status.value("role", "") == "backup") return status.value("state", "") == "in_sync";
  return status.value("protected", false);
}

std::string status_text(const Json& status) {
  std::string out = fmt::format(
      "{}: {}, {} ({})\n", text_of(status, "guest"), text_of(status, "role"),
      counts_as_protected(status) ? "PROTECTED" : "NOT PROTECTED", text_of(status, "state"));
  line(out, "guest", text_of(status, "guest_description"));
  line(out, "here", text_of(status, "host"));
  line(out, "peer", text_of(status, "peer"));
  line(out, "connection", text_of(status, "transport"));
  line(out, "arbiter", text_of(status, "arbiter"));
  line(out, "generation", text_of(status, "generation"));
  line(out, "tracker", text_of(status, "tracker"));
  epochs(out, status);
  line(out, "sent", bytes_text(number_of(status, "bytes_sent")));
  line(out, "received", bytes_text(number_of(status, "bytes_received")));
  line(out, "memory used",
       bytes_text(number_of(status, "reference_bytes") + number_of(status, "staging_bytes")));
  line(out, "packets",
       fmt::format("{:.0f} out, {:.0f} in, {:.0f} held, {:.0f} dropped",
                   number_of(status, "gate", "packets_released"),
                   number_of(status, "gate", "packets_in"),
                   number_of(status, "gate", "packets_held"),
                   number_of(status, "gate", "packets_dropped")));
  line(out, "guest clock",
       fmt::format("{:.1f} ms behind", number_of(status, "guest_clock_lag_ms")));
  takeover(out, status);
  line(out, "note", text_of(status, "detail"));
  return out;
}

std::string list_table(const std::vector<Json>& statuses) {
  std::size_t width = 5;
  for (const Json& status : statuses) width = std::max(width, text_of(status, "guest").size());
  std::string out = fmt::format("{:{}}  {:8}  {:13}  {:10}  {:>9}  {}\n", "GUEST", width, "ROLE",
                                "STATE", "PROTECTED", "EPOCHS", "PEER");
  for (const Json& status : statuses) {
    out += fmt::format("{:{}}  {:8}  {:13}  {:10}  {:9.0f}  {}\n", text_of(status, "guest"), width,
                       text_of(status, "role"), text_of(status, "state"),
                       counts_as_protected(status) ? "yes" : "NO", number_of(status, "epochs"),
                       text_of(status, "peer"));
  }
  return out;
}

std::string event_line(const Json& event) {
  return fmt::format("{:.3f}  {:12}  {:14}  {}", number_of(event, "at_s"), text_of(event, "guest"),
                     text_of(event, "event"), text_of(event, "text"));
}

std::string bytes_text(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(units)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, units[unit]);
}

std::string progress_line(const SessionStatus& status, unsigned columns) {
  if (status.state != "syncing" || status.sync_pages_total == 0) return {};
  const double share = std::min(1.0, static_cast<double>(status.sync_pages_sent) /
                                         static_cast<double>(status.sync_pages_total));
  const std::string head =
      fmt::format("{}: first synchronisation, round {} ", status.guest, status.sync_round);
  const std::string tail = fmt::format(" {:3.0f} %", share * 100);
  const std::size_t used = head.size() + tail.size() + 3;
  if (used + 10 > columns) return head + tail;
  const std::size_t width = std::min<std::size_t>(50, columns - used);
  const auto full = static_cast<std::size_t>(share * static_cast<double>(width));
  return head + "[" + std::string(full, '#') + std::string(width - full, '.') + "]" + tail;
}

}  // namespace libft::ftctl
