// SPDX-License-Identifier: LGPL-2.1-or-later
// Child is a process that libft started, held by a pidfd: no SIGCHLD, no reused pids. It inherits
// only the descriptors that it was given, no signal mask, and default signal actions.
// One thread at a time; pidfd() may be polled by another (readable once the child has ended).
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "libft/types.h"
#include "os/fd.h"

namespace libft::os {

struct InheritedFd {
  int fd;  // Here. Stays open here.
  int as;  // There; 3 or more.
};

struct ChildOptions {
  std::vector<std::string> argv{};         // argv[0] without '/' is searched in PATH.
  std::vector<std::string> environment{};  // "NAME=value": replaces or joins this process's own.
  std::vector<InheritedFd> fds{};          // All others from 3 up are closed in the child.
  int stdin_fd = -1;                       // -1: /dev/null, for all three.
  int stdout_fd = -1;
  int stderr_fd = -1;
  bool own_session = false;  // A terminal's Ctrl-C and hang-up do not reach it.
};

struct ChildEnd {
  bool by_signal = false;
  int code = 0;  // The exit code, or the signal's number.
  bool clean() const { return !by_signal && code == 0; }
};
std::string to_string(const ChildEnd& end);  // "exit code 1", "signal 9 (Killed)"

class Child {
 public:
  // Fails when the program cannot be executed.
  static Result<Child> start(const ChildOptions& options);
  // A child that this very process started when it was another program (execve keeps children).
  // Code::not_found: it is not one.
  static Result<Child> take_up(pid_t pid);

  Child(Child&&) noexcept = default;
  Child& operator=(Child&& other) noexcept;
  ~Child();  // Kills and reaps, unless it has ended or was detached.

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

  // Waits for the end, at most so long; Code::timeout if it still runs. Repeatable.
  Result<ChildEnd> wait(Nanos timeout);

  Status signal(int number);  // A child that ended already counts as told.
  void kill_and_reap();       // Idempotent.

  // Gives up the child: it runs on after this object. Somebody who must survive libft.
  void detach() { pidfd_.reset(); }

 private:
  Child(pid_t pid, ScopedFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_ = -1;
  ScopedFd pidfd_;
  std::optional<ChildEnd> end_;
};

}  // namespace libft::os
