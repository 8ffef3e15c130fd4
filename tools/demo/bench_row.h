// SPDX-License-Identifier: LGPL-2.1-or-later
// What the bench measured, a load at a time, and what a person and a program are told about it.
// Values and functions of values; any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "demo/load_client.h"

namespace libft::demo {

struct BenchRow {
  std::string guest;  // "QEMU", "machine"
  std::string asked;  // What the guest was asked for: "Redis", ...
  std::string what;   // "unprotected", or the strategy
  Load load = Load::open;
  double offered_per_s = 0;  // Load::open
  double seconds = 0;
  double requests_per_s = 0;
  std::uint64_t errors = 0;
  double client_p50 = 0, client_p99 = 0, client_max = 0;  // Milliseconds, as all that follow.
  bool is_protected = false;                              // Only then are the others filled in.
  double checkpoints_per_s = 0, stopped_p50 = 0, stopped_p99 = 0, pages = 0;
  double held_p50 = 0, held_p99 = 0;
  double stopped_percent = 0;  // Of the time: the guest stood still.
  double mb_per_s = 0;         // Both ways, on the cable between the hosts.
  // Under compare: frames that left because both said the same, and those that waited.
  std::optional<double> compared_per_s, by_checkpoint_per_s;
  // Between two answers, when the primary's host died after the rows.
  std::optional<double> gap_ms;

  std::string load_text() const;  // "200/s offered", "one request outstanding"
};

std::string bench_table(const std::vector<BenchRow>& rows);
// For each thing that was asked for, the rows of all strategies. The first one is unprotected.
std::string beside_text(const std::vector<BenchRow>& rows);
nlohmann::ordered_json to_json(const std::vector<BenchRow>& rows);

// The counter of all bytes, both ways, of a network interface in the text of /proc/net/dev.
std::optional<std::uint64_t> interface_bytes(std::string_view net_dev, std::string_view name);

}  // namespace libft::demo
