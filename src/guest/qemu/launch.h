// SPDX-License-Identifier: LGPL-2.1-or-later
// Starts a QEMU process and connects to its monitor. Session's thread; may take seconds.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "guest/qemu/arguments.h"
#include "os/child.h"
#include "qemu/qmp.h"

namespace libft::qemu {

struct LaunchOptions {
  std::string preload;  // libft-preload.so; empty: QEMU runs without it.
  std::string log;      // File that receives what QEMU prints.
  // For a command that a user wrapped: its own input and output instead of the log. -1: as above.
  int stdin_fd = -1;
  int stdout_fd = -1;
  int stderr_fd = -1;
};

struct Launched {
  os::Child process;
  std::unique_ptr<Qmp> qmp;
};

// `qmp_path` is where the arguments make QEMU listen. When QEMU ends before it answers, the failure
// carries the last lines that it printed.
Result<Launched> launch(const Arguments& arguments, const std::string& qmp_path,
                        const LaunchOptions& options, Qmp::EventSink sink);

struct ReadyOptions {
  Nanos patience;                 // For the socket.
  Nanos greeting;                 // For what QEMU says first on it.
  std::function<Status()> lives;  // Whether there is still a QEMU to wait for.
};
// QEMU's socket appears some time after its process, and its file before anybody listens.
Result<std::unique_ptr<Qmp>> connect_when_ready(const std::string& qmp_path,
                                                const ReadyOptions& options, Qmp::EventSink sink);

// The last lines of a log, for an error message: "" where there is none.
std::string last_words(const std::string& log);

}  // namespace libft::qemu
