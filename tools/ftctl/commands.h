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

int doctor_command(const Arguments& arguments, const Config& config);
int bench_command(const Arguments& arguments);
int keygen_command(const Arguments& arguments);
int qemu_args_command(const Arguments& arguments, const Config& config);

// `doctor --plan` (plan.cc): for people.
std::string plan_text(const std::string& guest, double memory_mib, double dirty_pages_per_second,
                      int interval_ms, int inflight, int staging_mib, int reference_mib);

}  // namespace libft::ftctl
