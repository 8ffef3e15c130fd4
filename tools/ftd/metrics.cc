// SPDX-License-Identifier: LGPL-2.1-or-later
#include "metrics.h"

#include <fmt/format.h>

#include "format.h"

namespace libft::ftd {

using Json = nlohmann::json;

namespace {

struct Metric {
  const char* name;
  const char* type;
  const char* help;
  const char* key;
  const char* part = nullptr;  // Of an object; "p50" and the like become a label.
  double scale = 1;            // To Prometheus's base units.
};

constexpr double kMs = 1e-3;

constexpr Metric kMetrics[] = {
    {"libft_epochs_total", "counter", "Checkpoints taken (primary) or applied (backup)", "epochs"},
    {"libft_generation", "gauge", "Generation of the arbiter's record", "generation"},
    {"libft_epoch_captured", "gauge", "Newest epoch that was captured", "epoch_captured"},
    {"libft_epoch_acknowledged", "gauge", "Newest epoch that the backup holds",
     "epoch_acknowledged"},
    {"libft_sync_pages_sent", "gauge", "Pages of the first synchronisation", "sync_pages_sent"},
    {"libft_sent_bytes_total", "counter", "Bytes sent to the peer", "bytes_sent"},
    {"libft_received_bytes_total", "counter", "Bytes received from the peer", "bytes_received"},
    {"libft_stopped_seconds", "gauge", "How long the guest stands still for a checkpoint",
     "stopped_ms", "", kMs},
    {"libft_output_held_seconds", "gauge", "From the seal of an epoch to the release of its output",
     "output_held_ms", "", kMs},
    {"libft_interval_seconds", "gauge", "From one pause to the next", "interval_ms", "", kMs},
    {"libft_dirty_pages", "gauge", "Pages written between two checkpoints", "dirty_pages", ""},
    {"libft_guest_clock_lag_seconds", "gauge", "How far the guest's clock is behind",
     "guest_clock_lag_ms", nullptr, kMs},
    {"libft_gate_packets_held", "gauge", "Packets of the guest that wait for their epoch", "gate",
     "packets_held"},
    {"libft_gate_packets_dropped_total", "counter", "Packets that a limit or the link refused",
     "gate", "packets_dropped"},
    {"libft_suspicions_total", "counter", "How often the peer was suspected",
     "heartbeat_suspicions"},
    {"libft_failovers_total", "counter", "Take-overs by this replica", "failovers"},
    {"libft_corrupt_frames_total", "counter", "Frames that were not what was sent; never applied",
     "corrupt_frames"},
    {"libft_reference_bytes", "gauge", "Memory for delta coding", "reference_bytes"},
    {"libft_staging_bytes", "gauge", "Memory for epochs in flight", "staging_bytes"},
};

// A label's value: backslash, quote and newline are escaped.
std::string label(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string guest_of(const Json& status) { return label(status.value("guest", "")); }

void head(std::string& out, const char* name, const char* type, const char* help) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void sample(std::string& out, const Metric& metric, const Json& status, const std::string& labels,
            const Json& value) {
  if (!value.is_number()) return;
  out += fmt::format("{}{{guest=\"{}\"{}}} {}\n", metric.name, guest_of(status), labels,
                     value.get<double>() * metric.scale);
}

void write(std::string& out, const Metric& metric, const Json& status) {
  const auto found = status.find(metric.key);
  if (found == status.end()) return;
  if (metric.part == nullptr) {
    sample(out, metric, status, "", *found);
  } else if (*metric.part != '\0') {
    sample(out, metric, status, "", found->value(metric.part, Json()));
  } else {
    for (const char* part : {"p50", "p99", "max"}) {
      sample(out, metric, status, fmt::format(",of=\"{}\"", part), found->value(part, Json()));
    }
  }
}

}  // namespace

std::string prometheus_text(const std::vector<Json>& statuses, bool maintenance) {
  std::string out;
  head(out, "libft_protected", "gauge", "1: a failure of either host now would be survived");
  for (const Json& status : statuses) {
    out += fmt::format("libft_protected{{guest=\"{}\"}} {}\n", guest_of(status),
                       ftctl::counts_as_protected(status) ? 1 : 0);
  }
  head(out, "libft_role", "gauge", "1 for the role that this host has for the guest");
  for (const Json& status : statuses) {
    out += fmt::format("libft_role{{guest=\"{}\",role=\"{}\",state=\"{}\",peer=\"{}\"}} 1\n",
                       guest_of(status), label(status.value("role", "")),
                       label(status.value("state", "")), label(status.value("peer", "")));
  }
  for (const Metric& metric : kMetrics) {
    std::string samples;
    for (const Json& status : statuses) write(samples, metric, status);
    if (samples.empty()) continue;
    head(out, metric.name, metric.type, metric.help);
    out += samples;
  }
  head(out, "libft_maintenance", "gauge", "1: `ftctl maintenance on`");
  out += fmt::format("libft_maintenance {}\n", maintenance ? 1 : 0);
  return out;
}

}  // namespace libft::ftd
