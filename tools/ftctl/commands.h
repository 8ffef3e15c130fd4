// SPDX-License-Identifier: LGPL-2.1-or-later
// The commands of ftctl, by group; each returns the exit code and has printed what there is to say.
// Main thread.
#pragma once

#include "cli.h"

namespace libft::ftctl {

// Those that serve guests until they end: protect, run, standby, witness (serve.cc).
int protect_command(const Arguments& arguments, const Config& config);
int standby_command(const Arguments& arguments, const Config& config);
int witness_command(const Arguments& arguments, const Config& config);

// Those that talk to a running ftctl: list, status, events, switchover, ... (client.cc).
int client_command(const Arguments& arguments, const Config& config);
// What the ftctls of this host say of `guest`; empty when there is none, or none answers.
std::vector<Json> statuses_here(const Settings& settings, const std::string& guest, int timeout_ms);

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

}  // namespace libft::ftctl
