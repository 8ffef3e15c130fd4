// SPDX-License-Identifier: LGPL-2.1-or-later
// How ftctl fails: its exit codes, and the two lines that every error consists of, cause and
// remedy. A Status carries both in one message, so that they stay together on their way up. Pure
// but for print_error(); any thread.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "libft/status.h"

namespace libft::ftctl {

// Documented in docs/ftctl.md: monitoring relies on them.
enum Exit : int {
  kFine = 0,
  kFailed = 1,
  kUsage = 2,
  kNotProtected = 3,
  kNoGuest = 4,
  kFenced = 5,
  kRefused = 6,
};
extern const char kExitCodesHelp[];

Status with_remedy(Code code, std::string_view cause, std::string_view remedy);

struct Complaint {
  std::string cause;
  std::string remedy;  // Empty where none is known.
};
Complaint complaint(const Status& status);
int exit_code(Code code);
Code code_from_string(std::string_view text);  // Code::internal for what is no code's name.

// "ftctl: CAUSE" and, where one is known, "remedy: REMEDY". Returns the exit code.
int print_error(const Status& status, std::FILE* to = stderr);

}  // namespace libft::ftctl
