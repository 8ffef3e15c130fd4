// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace libft::os {
namespace {

// Linux gave P_PIDFD this value; glibc names it only in newer headers.
constexpr auto kPidfd = static_cast<idtype_t>(3);

class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  std::vector<ScopedFd> copies;  // Open until the spawn is done.
};

// Every source is first copied above all targets, so that no dup2 overwrites a later source.
Status add_fd(SpawnPlan& plan, int fd, int as, int above) {
  if (fd < 0) {
    posix_spawn_file_actions_addopen(&plan.actions, as, "/dev/null", O_RDWR, 0);
    return {};
  }
  ScopedFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, above));
  if (!copy.valid()) return errno_status(fmt::format("duplicate descriptor {}", fd));
  posix_spawn_file_actions_adddup2(&plan.actions, copy.get(), as);
  plan.copies.push_back(std::move(copy));
  return {};
}

Status plan_fds(SpawnPlan& plan, const ChildOptions& options) {
  int last = 2;
  for (const InheritedFd& given : options.fds) {
    if (given.as < 3) return Status(Code::invalid, "descriptors 0 to 2 have options of their own");
    last = std::max(last, given.as);
  }
  FT_TRY(add_fd(plan, options.stdin_fd, 0, last + 1));
  FT_TRY(add_fd(plan, options.stdout_fd, 1, last + 1));
  FT_TRY(add_fd(plan, options.stderr_fd, 2, last + 1));
  for (const InheritedFd& given : options.fds) FT_TRY(add_fd(plan, given.fd, given.as, last + 1));
  // The host's descriptors may lack close-on-exec; a leaked one would keep its peer waiting.
  for (int fd = 3; fd < last; ++fd) {
    const bool wanted = std::ranges::any_of(options.fds, [&](auto& f) { return f.as == fd; });
    if (!wanted) posix_spawn_file_actions_addclose(&plan.actions, fd);
  }
  posix_spawn_file_actions_addclosefrom_np(&plan.actions, last + 1);
  return {};
}

void plan_signals(SpawnPlan& plan, bool own_session) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&plan.attributes, &none);
  posix_spawnattr_setsigdefault(&plan.attributes, &all);
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (own_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(&plan.attributes, flags);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& s : strings) result.push_back(s.data());
  result.push_back(nullptr);
  return result;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& extra) {
  std::vector<std::string> all = extra;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view own(*entry);
    const auto name = own.substr(0, own.find('=') + 1);
    if (std::ranges::none_of(extra, [&](auto& e) { return e.starts_with(name); }))
      all.emplace_back(own);
  }
  return all;
}

ChildEnd end_from(const siginfo_t& info) {
  return ChildEnd{info.si_code != CLD_EXITED, info.si_status};
}

}  // namespace

std::string to_string(const ChildEnd& end) {
  if (!end.by_signal) return fmt::format("exit code {}", end.code);
  const char* name = ::sigdescr_np(end.code);
  return fmt::format("signal {} ({})", end.code, name != nullptr ? name : "unknown");
}

Result<Child> Child::start(const ChildOptions& options) {
  if (options.argv.empty()) return failure(Code::invalid, "start a process: no program named");
  SpawnPlan plan;
  FT_TRY(plan_fds(plan, options));
  plan_signals(plan, options.own_session);
  std::vector<std::string> argv = options.argv;
  std::vector<std::string> environment = merged_environment(options.environment);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, argv[0].c_str(), &plan.actions, &plan.attributes,
                                   pointers(argv).data(), pointers(environment).data());
  if (error != 0) return failure(errno_status("execute " + argv[0], error));
  // Not reaped yet, so the number cannot have been given to anybody else.
  ScopedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) {
    Status why = errno_status("pidfd_open");
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return failure(std::move(why));
  }
  return Child(pid, std::move(pidfd));
}

Child& Child::operator=(Child&& other) noexcept {
  if (this == &other) return *this;
  kill_and_reap();
  pid_ = other.pid_;
  pidfd_ = std::move(other.pidfd_);
  end_ = other.end_;
  return *this;
}

Child::~Child() { kill_and_reap(); }

Result<Child> Child::take_up(pid_t pid) {
  ScopedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return failure(errno_status("pidfd_open"));
  siginfo_t info{};
  const auto id = static_cast<id_t>(pidfd.get());
  if (::waitid(kPidfd, id, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
    return failure(Code::not_found, fmt::format("process {} is no child of this one", pid));
  return Child(pid, std::move(pidfd));
}

Result<ChildEnd> Child::wait(Nanos timeout) {
  if (end_) return *end_;
  if (!pidfd_.valid()) return failure(Code::invalid, "wait for a process: it was detached");
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = deadline - std::chrono::steady_clock::now();
    const auto ms = std::chrono::ceil<Millis>(std::max(left, decltype(left)::zero())).count();
    pollfd waiting{pidfd_.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<long long>(ms, 1 << 30)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return failure(errno_status("wait for a process: poll"));
    if (ready == 0) return failure(Code::timeout, fmt::format("process {} still runs", pid_));
    break;
  }
  siginfo_t info{};
  if (::waitid(kPidfd, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0)
    return failure(errno_status("waitid"));
  end_ = end_from(info);
  return *end_;
}

Status Child::signal(int number) {
  if (end_) return {};
  if (!pidfd_.valid()) return Status(Code::invalid, "signal a process: it was detached");
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0) == 0) return {};
  if (errno == ESRCH) return {};
  return errno_status(fmt::format("signal process {}", pid_));
}

void Child::kill_and_reap() {
  if (!pidfd_.valid() || end_) return;
  if (!signal(SIGKILL).ok()) return;  // Not ours to end (it changed its user): do not wait for it.
  siginfo_t info{};
  while (::waitid(kPidfd, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0)
    if (errno != EINTR) return;
  end_ = end_from(info);
}

}  // namespace libft::os
