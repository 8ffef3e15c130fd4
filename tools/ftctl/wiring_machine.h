// SPDX-License-Identifier: LGPL-2.1-or-later
// Part of the wiring: guests on libft's own machine, "machine:IMAGE,mib=128,harts=1,...", with one
// network interface on a TAP device through the frames gate. They live inside ftctl and end with
// it.
#pragma once

#include <memory>
#include <string>

#include "libft/session.h"
#include "wiring.h"

namespace libft::ftctl {

bool is_machine_guest(const std::string& spec);
Result<Replica> open_machine(const Settings& settings, const std::string& spec,
                             std::shared_ptr<ReleaseGuard> guard, Log& log);
Result<Replica> open_machine_standby(const Settings& settings, const GuestInfo& primary,
                                     std::shared_ptr<ReleaseGuard> guard, Log& log);

}  // namespace libft::ftctl
