// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/qemu_model.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "os/child.h"
#include "os/file.h"
#include "qemu/device_state.h"
#include "qemu/qmp.h"

namespace libft::xen {
namespace {

using qemu::Json;
using qemu::Qmp;
using Steady = std::chrono::steady_clock;

constexpr Nanos kAnswer = Millis{10000}, kStart = Millis{60000}, kLoad = Millis{30000};
constexpr Millis kLookAgain{20};
constexpr std::size_t kCommandLineMax = 1u << 16;

// Where distributions put the QEMU that is built for Xen.
constexpr const char* kPrograms[] = {
    "/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen/bin/qemu-system-i386",
    "/usr/local/lib/xen/bin/qemu-system-i386", "/usr/bin/qemu-system-i386"};

std::string version_of(const Json& greeting) {
  const Json version = greeting.value("version", Json::object());
  const Json numbers = version.value("qemu", Json::object());
  return fmt::format("{}.{}.{} ({})", qemu::number_at(numbers, "major"),
                     qemu::number_at(numbers, "minor"), qemu::number_at(numbers, "micro"),
                     qemu::text_at(version, "package"));
}

Status told(Result<Json> answer) { return answer ? Status() : std::move(answer.error()); }

class QemuModel final : public DeviceModel {
 public:
  QemuModel(DomId domain, pid_t pid, os::ScopedFd pidfd)
      : domain_(domain), pid_(pid), pidfd_(std::move(pidfd)) {}
  QemuModel(DomId domain, os::Child child)
      : domain_(domain), pid_(child.pid()), child_(std::move(child)) {}

  pid_t pid() const override { return pid_; }

  // QEMU aborts when it is told to end what it had not begun (memory_global_dirty_log_do_stop).
  Status log_writes(bool on) override {
    if (!on && !logs_) return {};
    FT_TRY(connect(kAnswer));
    const Status logs = told(qmp_->execute("xen-set-global-dirty-log", {{"enable", on}}, kAnswer));
    let_go();
    logs_ = on && logs.ok();
    return logs.within("have the device model report the pages that it writes");
  }

  Status stop() override {
    FT_TRY(connect(kAnswer));
    stopped_ = true;
    return told(qmp_->execute("stop", Json::object(), kAnswer)).within("stop the device model");
  }

  Status save(std::vector<std::byte>& state) override {
    FT_TRY(connect(kAnswer));
    FT_ASSIGN(const auto saver, qemu::open_device_state(*qmp_, qemu::StateWay::devices_only));
    FT_ASSIGN(const std::string command, saver->command());
    FT_ASSIGN(const auto ticket, qmp_->post(command));
    FT_TRY(saver->finish(*qmp_, ticket));
    return saver->fetch(state);
  }

  Status load(std::span<const std::byte> state) override {
    FT_TRY(connect(kAnswer));
    stopped_ = true;
    return qemu::load_device_state(*qmp_, state, kLoad).within("load the device model's state");
  }

  // A connection that broke is made anew, once: the guest waits.
  Status go_on() override {
    if (!stopped_) return {};
    Status status;
    for (int attempt = 0; attempt < 2; ++attempt) {
      status = connect(kAnswer);
      if (status.ok()) status = told(qmp_->execute("cont", Json::object(), kAnswer));
      let_go();
      if (status.ok()) break;
    }
    if (status.ok()) stopped_ = false;
    return status.within("set the device model running");
  }

  void keep() override {
    if (child_) child_->detach();
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    child_.reset();
  }

  // Not asked to: nothing of it may be heard any more.
  void end() override {
    let_go();
    if (child_) child_->kill_and_reap();
    child_.reset();
    if (pidfd_.valid()) (void)::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    pidfd_.reset();
  }

  // After a start: until its monitor is there.
  Status wait_until_it_answers(const std::string& log) {
    const auto deadline = Steady::now() + kStart;
    for (;;) {
      const Status connected = connect(kStart);
      if (connected.ok()) return {};
      if (const auto ended = child_->wait(Nanos{0}))
        return Status(Code::io, fmt::format("the device model ended ({}): see {}",
                                            os::to_string(*ended), log));
      if (connected.code() != Code::not_found || Steady::now() >= deadline) return connected;
      std::this_thread::sleep_for(kLookAgain);
    }
  }
  Status connect(Nanos timeout) {
    if (qmp_ && !qmp_->lost()) return {};
    FT_ASSIGN(qmp_, Qmp::connect(qmp_path(domain_), {}, timeout));
    return {};
  }
  void let_go() { qmp_.reset(); }
  const Json& greeting() const { return qmp_->greeting(); }

 private:
  const DomId domain_;
  const pid_t pid_;
  os::ScopedFd pidfd_;  // Of one that was found, or kept.
  std::optional<os::Child> child_;
  std::unique_ptr<Qmp> qmp_;
  bool stopped_ = false, logs_ = false;
};

std::vector<std::string> words_of(const std::string& command_line) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < command_line.size();) {
    const std::size_t end = std::min(command_line.find('\0', at), command_line.size());
    words.push_back(command_line.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

Result<std::string> program() {
  for (const char* const path : kPrograms)
    if (::access(path, X_OK) == 0) return std::string(path);
  return failure(Code::unsupported,
                 fmt::format("this host has no QEMU for Xen (looked for {}): install "
                             "qemu-system-xen",
                             fmt::join(kPrograms, ", ")));
}

Status check_files(const DeviceModelShape& shape) {
  for (const DeviceOption& option : shape.options) {
    if (option.name != "-kernel" && option.name != "-initrd") continue;
    if (::access(option.value.c_str(), R_OK) != 0)
      return Status(Code::refused,
                    fmt::format("the guest was booted with {} {}, which this host does not have: "
                                "copy it from the primary",
                                option.name, option.value));
  }
  return {};
}

// Beside those of libxl.
os::ScopedFd open_log(const std::string& name) {
  const std::string path = fmt::format("/var/log/xen/qemu-dm-{}.log", name);
  return os::ScopedFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
}

}  // namespace

Result<DeviceModels::Found> QemuModels::find(DomId domain, pid_t pid) {
  os::ScopedFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  FT_ASSIGN(const std::string line,
            os::read_file(fmt::format("/proc/{}/cmdline", pid), kCommandLineMax));
  Found found;
  found.arguments = words_of(line);
  const auto id = std::find(found.arguments.begin(), found.arguments.end(), "-xen-domid");
  if (!pidfd.valid() || id == found.arguments.end() || id + 1 == found.arguments.end() ||
      *(id + 1) != std::to_string(domain))
    return failure(Code::not_found,
                   fmt::format("process {} is not the device model of domain {}", pid, domain));
  found.arguments.erase(found.arguments.begin());
  auto model = std::make_unique<QemuModel>(domain, pid, std::move(pidfd));
  FT_TRY(model->connect(kAnswer));
  found.version = version_of(model->greeting());
  model->let_go();
  found.model = std::move(model);
  return found;
}

Result<std::unique_ptr<DeviceModel>> QemuModels::start(DomId domain, const DeviceModelShape& shape,
                                                       const std::string& name) {
  FT_TRY(check(shape));
  FT_TRY(check_files(shape));
  os::ChildOptions options;
  FT_ASSIGN(const std::string file, program());
  options.argv = waiting_arguments(shape, domain, name);
  options.argv.insert(options.argv.begin(), file);
  options.environment = {"XEN_QEMU_CONSOLE_LIMIT=1048576"};  // XSA-180, as libxl does.
  const os::ScopedFd log = open_log(name);
  options.stdout_fd = options.stderr_fd = log.valid() ? log.get() : -1;
  options.own_session = true;
  ::unlink(qmp_path(domain).c_str());  // Of an earlier domain of this number.
  FT_ASSIGN(os::Child child, os::Child::start(options));
  auto model = std::make_unique<QemuModel>(domain, std::move(child));
  FT_TRY(model->wait_until_it_answers("/var/log/xen/qemu-dm-" + name + ".log"));
  if (const std::string here = version_of(model->greeting()); here != shape.version)
    return failure(Code::refused,
                   fmt::format("the primary's device model is QEMU {}, this host's {}: install "
                               "the same on both",
                               shape.version, here));
  return model;
}

}  // namespace libft::xen
