// SPDX-License-Identifier: LGPL-2.1-or-later
#include "process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstdio>

namespace libft::ftd {

using ftctl::Descriptor;

Process::Process(os::Child child) : id_(ftctl::process_of(child.pid())), child_(std::move(child)) {}

Process::~Process() {
  if (child_) child_->detach();
}

namespace {
constexpr off_t kLogBytesMax = 16 << 20;

// Of what earlier processes said one file is kept: a guest that cannot be started fills no disk.
void turn_log_over(const std::string& log) {
  struct stat there {};
  if (::stat(log.c_str(), &there) == 0 && there.st_size > kLogBytesMax) {
    ::rename(log.c_str(), (log + ".1").c_str());
  }
}
}  // namespace

Result<Process> Process::start(std::vector<std::string> argv, const std::string& log) {
  turn_log_over(log);
  const Descriptor out(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!out.valid()) return failure(ftctl::system_error("log " + log));
  os::ChildOptions options;
  options.argv = std::move(argv);
  options.stdout_fd = options.stderr_fd = out.get();
  options.own_session = true;
  FT_ASSIGN(os::Child child, os::Child::start(options));
  return Process(std::move(child));
}

Result<Process> Process::adopt(const ftctl::ProcessId& id) {
  Descriptor pidfd(static_cast<int>(::syscall(SYS_pidfd_open, id.pid, 0)));
  // Compared after it was opened: the number may be somebody else's by now.
  if (!pidfd.valid() || !ftctl::alive(id)) {
    return failure(Code::not_found, fmt::format("process {} has ended", id.pid));
  }
  return Process(id, std::move(pidfd));
}

int Process::pidfd() const { return child_ ? child_->pidfd() : pidfd_.get(); }

bool Process::ended() {
  if (child_) return child_->wait(Nanos{0}).has_value();
  pollfd wait{pidfd_.get(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

}  // namespace libft::ftd
