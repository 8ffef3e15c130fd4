// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/namespace.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include "os/thread.h"

namespace libft::lab {
namespace {

constexpr Nanos kCommandTime = std::chrono::seconds(20);

// Waits until its input ends, which is when the lab's process is gone, however that happened, and
// kills whatever lives in the namespace. A process that survives libft on purpose (a guest does)
// would else survive the lab too.
constexpr const char* kJanitor = R"sh(
home=$(readlink /proc/self/ns/net)
cat > /dev/null
for round in 1 2 3; do
  for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" != $$ ] && [ "$(readlink "$process/ns/net" 2> /dev/null)" = "$home" ] &&
      kill -9 "$pid" 2> /dev/null
  done
done)sh";

Status write_file(const char* path, std::string_view text) {
  os::ScopedFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return os::errno_status(fmt::format("open {}", path));
  if (::write(fd.get(), text.data(), text.size()) < 0) {
    return os::errno_status(fmt::format("write \"{}\" to {}", text, path));
  }
  return {};
}

Result<os::ScopedFd> memory_file(std::string_view text) {
  os::ScopedFd fd(::memfd_create("ft-lab", MFD_CLOEXEC));
  if (!fd.valid()) return failure(os::errno_status("memfd_create"));
  if (::write(fd.get(), text.data(), text.size()) < 0 || ::lseek(fd.get(), 0, SEEK_SET) != 0) {
    return failure(os::errno_status("fill a memory file"));
  }
  return fd;
}

std::string text_of(const os::ScopedFd& file) {
  std::string text(4096, '\0');
  const auto got = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

Status become_namespace_root() {
  const auto uid = ::geteuid();
  const auto gid = ::getegid();
  if (uid == 0) return {};
  if (::unshare(CLONE_NEWUSER) != 0) {
    return os::errno_status(
        "make a user namespace (run as root, or allow it: sysctl kernel.unprivileged_userns_clone=1"
        " user.max_user_namespaces=1000)");
  }
  FT_TRY(write_file("/proc/self/setgroups", "deny"));
  FT_TRY(write_file("/proc/self/uid_map", fmt::format("0 {} 1", uid)));
  return write_file("/proc/self/gid_map", fmt::format("0 {} 1", gid));
}

Result<std::unique_ptr<Namespace>> Namespace::create(std::string name) {
  std::unique_ptr<Namespace> made(new Namespace(std::move(name)));
  made->thread_ = os::start_thread("ft-lab-" + made->name_, [raw = made.get()] { raw->serve(); });
  Status settled;
  made->within([&] { settled = made->settle(); });
  FT_TRY(settled.within("namespace " + made->name_));
  FT_TRY(made->start_janitor());
  return made;
}

Status Namespace::settle() {
  if (::unshare(CLONE_NEWNET) != 0) {
    return os::errno_status("make a network namespace (needs root or user namespaces)");
  }
  fd_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!fd_.valid()) return os::errno_status("open /proc/thread-self/ns/net");
  // Router solicitations and duplicate address detection are noise in a measurement. A kernel
  // without IPv6 makes none.
  static_cast<void>(write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"));
  static_cast<void>(write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
  // Before any socket is opened here. Refused in a user namespace: the gate then keeps a backlog.
  static_cast<void>(write_file("/proc/sys/net/unix/max_dgram_qlen", "4096"));
  return {};
}

Status Namespace::start_janitor() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return os::errno_status("pipe");
  const os::ScopedFd read_end(ends[0]);
  janitor_input_.reset(ends[1]);
  FT_ASSIGN(
      janitor_,
      start({.argv = {"sh", "-c", kJanitor}, .stdin_fd = read_end.get(), .own_session = true}));
  return {};
}

Namespace::~Namespace() {
  if (fd_.valid()) signal_all(SIGKILL);
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

std::string Namespace::path() const { return fmt::format("/proc/{}/fd/{}", ::getpid(), fd()); }

void Namespace::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || work_ != nullptr; });
    if (work_ == nullptr) return;
    (*work_)();
    work_ = nullptr;
    changed_.notify_all();
  }
}

void Namespace::within(const std::function<void()>& work) {
  const std::lock_guard turn(callers_);
  std::unique_lock lock(mutex_);
  work_ = &work;
  changed_.notify_all();
  changed_.wait(lock, [&] { return work_ == nullptr; });
}

Result<os::Child> Namespace::start(const os::ChildOptions& options) {
  std::optional<Result<os::Child>> child;
  within([&] { child.emplace(os::Child::start(options)); });
  return std::move(*child);
}

Status Namespace::run(std::vector<std::string> argv, std::string_view input) {
  FT_ASSIGN(const auto in, memory_file(input));
  FT_ASSIGN(const auto out, memory_file({}));
  os::ChildOptions options;
  options.argv = argv;
  options.stdin_fd = in.get();
  options.stdout_fd = options.stderr_fd = out.get();
  FT_ASSIGN(auto child, start(options));
  FT_ASSIGN(const auto end, child.wait(kCommandTime));
  if (end.clean()) return {};
  return Status(Code::io, fmt::format("{}: {} in namespace {}: {}", argv.front(),
                                      os::to_string(end), name_, text_of(out)));
}

std::vector<pid_t> Namespace::processes() const {
  std::vector<pid_t> found;
  struct stat home {};
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return found;
  if (::fstat(fd(), &home) != 0) home.st_ino = 0;
  while (const dirent* entry = ::readdir(proc)) {
    pid_t pid = 0;
    const char* end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, pid).ptr != end || pid == ::getpid()) continue;
    struct stat its {};  // A zombie has no namespace any more, so it is not found.
    if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &its) == 0 &&
        its.st_ino == home.st_ino && its.st_dev == home.st_dev) {
      found.push_back(pid);
    }
  }
  ::closedir(proc);
  return found;
}

int Namespace::signal_all(int number) {
  int signalled = 0;
  for (;;) {
    int again = 0;
    for (const pid_t pid : processes()) {
      // The janitor must be able to work as long as we live.
      if (janitor_ && pid == janitor_->pid()) continue;
      if (janitor_ && ::getsid(pid) == janitor_->pid()) continue;
      if (::kill(pid, number) == 0) ++again;
    }
    signalled += again;
    // Only after a SIGKILL does the list become empty; one of them may have been starting another.
    if (number != SIGKILL || again == 0) return signalled;
    ::usleep(200);
  }
}

}  // namespace libft::lab
