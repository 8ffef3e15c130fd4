// SPDX-License-Identifier: LGPL-2.1-or-later
// Which process it is: its number, told apart from a later one's by the time at which it began.
// Values; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace libft::os {

struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  // Field 22 of /proc/PID/stat.
};
ProcessId this_process();
ProcessId process_of(pid_t pid);  // start_ticks 0: there is none.
bool alive(const ProcessId& process);

}  // namespace libft::os
