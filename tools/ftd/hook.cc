// SPDX-License-Identifier: LGPL-2.1-or-later
#include "hook.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include "os/child.h"
#include "os/file.h"

namespace libft::ftd {

using Json = nlohmann::json;

namespace {

constexpr std::chrono::seconds kPatience{10};

Result<os::ScopedFd> input_of(const Json& event) {
  os::ScopedFd fd(::memfd_create("ftd-event", MFD_CLOEXEC));
  if (!fd.valid()) return failure(os::errno_status("memfd_create"));
  FT_TRY(
      os::write_all(fd.get(), event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return failure(os::errno_status("rewind"));
  return fd;
}

std::string text_of(const Json& event, const char* key) {
  const auto found = event.find(key);
  if (found == event.end()) return {};
  std::string text = found->is_string() ? found->get<std::string>() : found->dump();
  std::erase(text, '\0');
  return text;
}

Status run_program(const std::string& program, const Json& event) {
  FT_ASSIGN(const os::ScopedFd input, input_of(event));
  os::ChildOptions options;
  options.argv = {program};
  options.stdin_fd = input.get();
  options.stdout_fd = options.stderr_fd = 2;
  for (const auto& [name, key] : {std::pair{"FT_GUEST", "guest"},
                                  {"FT_EVENT", "event"},
                                  {"FT_ROLE", "role"},
                                  {"FT_STATE", "state"},
                                  {"FT_PROTECTED", "protected"},
                                  {"FT_TEXT", "text"}}) {
    options.environment.push_back(fmt::format("{}={}", name, text_of(event, key)));
  }
  FT_ASSIGN(os::Child child, os::Child::start(options));
  FT_ASSIGN(const os::ChildEnd end, child.wait(kPatience));  // Else it is killed.
  return end.clean() ? Status() : Status(Code::io, os::to_string(end));
}

}  // namespace

Hook::Hook(std::string program, Log& log) : program_(std::move(program)), log_(log) {
  if (!program_.empty()) thread_ = std::jthread([this] { serve(); });
}

Hook::~Hook() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  more_.notify_all();
}

void Hook::run(const Json& event) {
  if (program_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() == kWaitingMax) {
      log_.write(LogLevel::error, "ftd",
                 fmt::format("on-event {} is too slow: an event is left out", program_));
      return;
    }
    waiting_.push_back(event);
  }
  more_.notify_all();
}

void Hook::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    more_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const Json event = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    run_one(event);
    lock.lock();
  }
}

void Hook::run_one(const Json& event) {
  if (const Status ran = run_program(program_, event); !ran) {
    log_.write(
        LogLevel::error, text_of(event, "guest"),
        fmt::format("on-event {} for {}: {}", program_, text_of(event, "event"), ran.message()));
  }
}

}  // namespace libft::ftd
