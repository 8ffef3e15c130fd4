// SPDX-License-Identifier: LGPL-2.1-or-later
// Part of the wiring: guests without a machine ("memory:mib=64,pages=50"), with which everything of
// ftctl can be tried where there is no hypervisor. They live inside ftctl and end with it.
#pragma once

#include <string>

#include "libft/session.h"

namespace libft::ftctl {

bool is_memory_guest(const std::string& spec);
// A guest that writes `pages` pages every 10 ms.
Result<Replica> open_memory_guest(const std::string& spec);
Result<Replica> open_memory_standby(const GuestInfo& primary);

}  // namespace libft::ftctl
