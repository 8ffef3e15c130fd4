// SPDX-License-Identifier: LGPL-2.1-or-later
// What can be said on the demo's command line. Parsing only; main thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "demo/result.h"

namespace libft::demo {

struct DemoOptions {
  int runs = 1;
  Victim victim = Victim::primary;
  std::string arbiter = "file";   // or "etcd"
  std::optional<double> seconds;  // Before the failure; else at random from 3 to 6. Bench: a row.
  std::uint64_t seed = 0;         // Of the moments of failure; 0: chosen and printed.
  double writes_per_s = 200;
  int memory_mib = 192;
  int interval_ms = 0;    // 0: ftctl's own.
  int answer_max_ms = 0;  // The same.
  bool fixed = false;
  std::string json_file, html_file = "demo-report.html", keep_logs;
  std::string guest;     // Folder with vmlinuz, initrd.img, cmdline; empty: build one.
  bool machine = false;  // A guest on libft's own machine instead of one in QEMU.
  std::string strategy;
  int replicas = 2;               // 3: a witness votes.
  std::string beside;             // Another strategy, whose latency is measured in the same run.
  std::string ftctl;              // Empty: this program.
  std::string through = "ftctl";  // or "ftd", or "capi": `pair`, a program that has libft.h alone.
  std::string pair;               // Empty: ft-pair, beside this program.
  bool reprotect_all = false;     // In each run, not only in the first.
  bool bench = false;
  bool strategies = false;  // A bench: each strategy that the guest can have.
  bool all_loads = false;   // The guest serves a page, too.
  std::string document;     // Where the table of the strategies is put between its marks.
  bool verbose = false;
};

// Those that such a guest can have.
std::span<const std::string_view> strategies_of(bool machine);

// The exit code when there is nothing more to do: help, or a usage error (printed).
std::optional<int> parse(int argc, char** argv, DemoOptions& options);

}  // namespace libft::demo
