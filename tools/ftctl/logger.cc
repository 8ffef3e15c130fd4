// SPDX-License-Identifier: LGPL-2.1-or-later
#include "logger.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>

#include "report.h"

namespace libft::ftctl {

namespace {

std::string line_of(LogLevel level, std::string_view area, std::string_view text) {
  const auto now = std::chrono::system_clock::now();
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03} {:7} {}: {}\n",
                     fmt::localtime(std::chrono::system_clock::to_time_t(now)), ms,
                     to_string(level), area, text);
}

// A log that cannot be written is no reason to end a protection: what fits is written.
void write_some(int fd, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<std::size_t>(n);
  }
}

constexpr char kClearLine[] = "\r\x1b[K";

}  // namespace

Result<std::unique_ptr<Logger>> Logger::open(const std::string& file, bool verbose) {
  Descriptor fd;
  if (!file.empty()) {
    fd = Descriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!fd.valid()) {
      return failure(with_remedy(Code::invalid, system_error("log file " + file).message(),
                                 "choose another with --log-file"));
    }
  }
  return std::unique_ptr<Logger>(new Logger(std::move(fd), verbose, ::isatty(2) == 1));
}

Logger::~Logger() { progress(""); }

void Logger::write(LogLevel level, std::string_view area, std::string_view text) {
  if (level == LogLevel::debug && !verbose_) return;
  const std::string line = line_of(level, area, text);
  const std::lock_guard lock(mutex_);
  write_some(2, progress_.empty() ? line : kClearLine + line + progress_);
  if (file_.valid()) write_some(file_.get(), line);
}

void Logger::progress(const std::string& text) {
  if (!terminal_) return;
  const std::lock_guard lock(mutex_);
  if (text == progress_) return;
  progress_ = text;
  write_some(2, kClearLine + text);
}

}  // namespace libft::ftctl
