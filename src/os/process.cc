// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace libft::os {

ProcessId process_of(pid_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(in, text);
  // The name, in parentheses, may contain anything: the fields are counted from its end.
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return {pid, 0};
  std::istringstream fields(text.substr(end + 1));
  std::string field, state;
  fields >> state;
  if (state == "Z" || state == "X") return {pid, 0};  // Dead; its parent has not asked yet.
  for (int i = 4; i < 22; ++i) fields >> field;
  std::uint64_t ticks = 0;
  fields >> ticks;
  return {pid, ticks};
}

ProcessId this_process() { return process_of(::getpid()); }

bool alive(const ProcessId& process) {
  if (process.pid <= 0 || process.start_ticks == 0) return false;
  return process_of(process.pid).start_ticks == process.start_ticks;
}

}  // namespace libft::os
