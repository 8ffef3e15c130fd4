// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/namespace.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <memory>
#include <thread>

#include "libft/types.h"
#include "os/fd.h"

namespace libft::demo {
namespace {

// A zombie has no namespace any more, so it is not counted as living there.
bool lives_in(pid_t pid, const struct stat& home) {
  struct stat found {};
  if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &found) != 0) return false;
  return found.st_ino == home.st_ino && found.st_dev == home.st_dev;
}

}  // namespace

Status enter_namespace(int netns_fd) {
  if (netns_fd < 0 || ::setns(netns_fd, CLONE_NEWNET) == 0) return {};
  return os::errno_status("enter the client's network namespace");
}

std::vector<pid_t> processes_in(int netns_fd) {
  std::vector<pid_t> found;
  struct stat home {};
  if (netns_fd < 0 || ::fstat(netns_fd, &home) != 0) return found;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  if (!proc) return found;
  while (const dirent* entry = ::readdir(proc.get())) {
    pid_t pid = 0;
    const char* end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, pid).ptr != end || pid == ::getpid()) continue;
    if (lives_in(pid, home)) found.push_back(pid);
  }
  return found;
}

Status signal_all(const std::vector<pid_t>& pids, int number) {
  for (const pid_t pid : pids) {
    if (::kill(pid, number) != 0 && errno != ESRCH) {
      return os::errno_status(fmt::format("signal {} to process {}", number, pid));
    }
  }
  return {};
}

int kill_all_in(int netns_fd) {
  int killed = 0;
  for (int round = 0; round < 200; ++round) {
    const std::vector<pid_t> pids = processes_in(netns_fd);
    if (pids.empty()) break;
    if (round == 0) killed = static_cast<int>(pids.size());
    signal_all(pids, SIGKILL).ok();
    std::this_thread::sleep_for(Millis{5});  // A dying process takes a moment to leave.
  }
  return killed;
}

}  // namespace libft::demo
