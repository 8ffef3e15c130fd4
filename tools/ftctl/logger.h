// SPDX-License-Identifier: LGPL-2.1-or-later
// ftctl's log: lines on stderr and, if wanted, appended to a file; beneath them, on a terminal, one
// line that shows progress. Any thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "descriptor.h"
#include "libft/log.h"

namespace libft::ftctl {

class Logger final : public Log {
 public:
  // `file` may be empty.
  static Result<std::unique_ptr<Logger>> open(const std::string& file, bool verbose);
  ~Logger() override;

  void write(LogLevel level, std::string_view area, std::string_view text) override;

  // Replaces the progress line; empty takes it away. Without a terminal it does nothing.
  void progress(const std::string& text);
  bool shows_progress() const { return terminal_; }

 private:
  Logger(Descriptor file, bool verbose, bool terminal)
      : file_(std::move(file)), verbose_(verbose), terminal_(terminal) {}

  Descriptor file_;
  bool verbose_, terminal_;
  std::mutex mutex_;
  std::string progress_;
};

}  // namespace libft::ftctl
