// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "os/file.h"

namespace libft::qemu {
namespace {

using Steady = std::chrono::steady_clock;

constexpr Nanos kStartTimeout = std::chrono::seconds(20);

}  // namespace

Result<std::unique_ptr<Qmp>> connect_when_ready(const std::string& qmp_path,
                                                const ReadyOptions& options, Qmp::EventSink sink) {
  const auto deadline = Steady::now() + options.patience;
  for (;;) {
    auto qmp = Qmp::connect(qmp_path, sink, options.greeting);
    if (qmp) return qmp;
    FT_TRY(options.lives());
    if (qmp.error().code() != Code::not_found || Steady::now() > deadline) return qmp;
    std::this_thread::sleep_for(Millis{5});
  }
}

std::string last_words(const std::string& log) {
  auto text = os::read_file(log, 64u << 20);
  if (!text || text->empty()) return "it printed nothing";
  while (!text->empty() && text->back() == '\n') text->pop_back();
  const std::size_t keep = std::min<std::size_t>(text->size(), 600);
  std::string words = text->substr(text->size() - keep);
  std::replace(words.begin(), words.end(), '\n', '|');
  return words;
}

namespace {

Status lives(os::Child& process, const std::string& log) {
  const auto end = process.wait(Nanos{0});
  if (!end) return {};
  return Status(Code::guest_gone, fmt::format("QEMU ended at its start ({}): {}",
                                              os::to_string(*end), last_words(log)));
}

}  // namespace

Result<Launched> launch(const Arguments& arguments, const std::string& qmp_path,
                        const LaunchOptions& options, Qmp::EventSink sink) {
  os::ScopedFd log;
  if (!options.log.empty()) {
    log.reset(
        ::open(options.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
    if (!log.valid()) return failure(os::errno_status("open QEMU's log " + options.log));
  }
  if (!options.preload.empty() && ::access(options.preload.c_str(), R_OK) != 0)
    return failure(os::errno_status("find libft's preload object " + options.preload));
  (void)::unlink(qmp_path.c_str());  // A socket left by an earlier QEMU would refuse, not wait.
  os::ChildOptions child;
  child.argv = arguments;
  if (!options.preload.empty()) child.environment.push_back("LD_PRELOAD=" + options.preload);
  child.stdin_fd = options.stdin_fd;
  child.stdout_fd = options.stdout_fd >= 0 ? options.stdout_fd : log.get();
  child.stderr_fd = options.stderr_fd >= 0 ? options.stderr_fd : log.get();
  child.own_session = options.stdin_fd < 0;
  FT_ASSIGN(os::Child process, os::Child::start(child));
  FT_ASSIGN(
      std::unique_ptr<Qmp> qmp,
      connect_when_ready(
          qmp_path, {kStartTimeout, Millis{10000}, [&] { return lives(process, options.log); }},
          std::move(sink)));
  return Launched{std::move(process), std::move(qmp)};
}

}  // namespace libft::qemu
