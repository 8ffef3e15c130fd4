// SPDX-License-Identifier: LGPL-2.1-or-later
// The commands of ftctl, by group; each returns the exit code and has printed what there is to say.
// Main thread.
#pragma once

#include "cli.h"

namespace libft::ftctl {

// Those that serve guests until they end: protect, run, standby (serve.cc).
int protect_command(const Arguments& arguments, const Config& config);
int standby_command(const Arguments& arguments, const Config& config);

// Those that talk to a running ftctl: list, status, events, switchover, ... (client.cc).
int client_command(const Arguments& arguments, const Config& config);

// Those that need ftd: forget, maintenance, metrics (through_ftd.cc).
int ftd_command(const Arguments& arguments, const Config& config);
int bugreport_command(const Arguments& arguments, const Config& config);

// `ftctl may-start [GUEST...]`: those that were named, or all of the configuration. The exit code
// is that of the first that may not.
int may_start_command(const Arguments& arguments, const Config& config);
int doctor_command(const Arguments& arguments, const Config& config);
int bench_command(const Arguments& arguments);
int keygen_command(const Arguments& arguments);
int qemu_args_command(const Arguments& arguments, const Config& config);

// `doctor --plan` (plan.cc): for people.
struct PlanInput {
  std::string guest;
  double memory_mib = 0, dirty_pages_per_second = 0;
  bool dirty_rate_given = false;
  int interval_ms = 0, inflight = 0, staging_mib = 0, reference_mib = 0;
  std::string tracker;         // The one that would be used here; empty: none works.
  double scan_ms_per_gib = 0;  // Of it, measured.
};
std::string plan_text(const PlanInput& input);

}  // namespace libft::ftctl
