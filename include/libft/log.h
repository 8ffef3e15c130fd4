// SPDX-License-Identifier: LGPL-2.1-or-later
// A Log takes what libft has to say to people. The host supplies it; libft itself writes nowhere.
// Any thread may call it; implementations lock.
#pragma once

#include <string_view>

namespace libft {

enum class LogLevel { debug, info, warning, error };
std::string_view to_string(LogLevel level);

class Log {
 public:
  virtual ~Log() = default;
  // `area` is a folder's name: "session", "qemu", "frames". `text` is one line without an end.
  virtual void write(LogLevel level, std::string_view area, std::string_view text) = 0;
};

}  // namespace libft
