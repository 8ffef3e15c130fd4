// SPDX-License-Identifier: LGPL-2.1-or-later
#include "report.h"

#include <fmt/format.h>

namespace libft::ftctl {

const char kExitCodesHelp[] =
    "Exit codes:\n"
    "  0  fine\n"
    "  1  failure: the message says what failed\n"
    "  2  usage: an option, the configuration or a guest's description is wrong\n"
    "  3  not protected: the guest of a `status` has no backup that could take over now\n"
    "  4  no such guest, or no ftctl is running for it\n"
    "  5  fenced: another host owns the guest\n"
    "  6  refused: by the arbiter, by the peer, or because it would not be safe\n";

namespace {
constexpr std::string_view kSeparator = "; remedy: ";

// What helps against a whole class of failures, for messages that name no remedy of their own.
std::string_view usual_remedy(Code code) {
  switch (code) {
    case Code::unsupported: return "`ftctl doctor` lists what this host can do and what is missing";
    case Code::internal: return "this is a defect in libft: please report it with the log";
    case Code::busy: return "try again later";
    default: return {};
  }
}
}  // namespace

Status with_remedy(Code code, std::string_view cause, std::string_view remedy) {
  return Status(code, fmt::format("{}{}{}", cause, kSeparator, remedy));
}

Complaint complaint(const Status& status) {
  const std::string& text = status.message();
  const std::size_t at = text.find(kSeparator);
  if (at == std::string::npos) return {text, std::string(usual_remedy(status.code()))};
  return {text.substr(0, at), text.substr(at + kSeparator.size())};
}

int exit_code(Code code) {
  switch (code) {
    case Code::ok: return kFine;
    case Code::invalid: return kUsage;
    case Code::not_found: return kNoGuest;
    case Code::fenced: return kFenced;
    case Code::refused: return kRefused;
    default: return kFailed;
  }
}

Code code_from_string(std::string_view text) {
  for (int i = 0; i <= static_cast<int>(Code::internal); ++i) {
    if (to_string(static_cast<Code>(i)) == text) return static_cast<Code>(i);
  }
  return Code::internal;
}

int print_error(const Status& status, std::FILE* to) {
  const Complaint what = complaint(status);
  fmt::print(to, "ftctl: {}\n", what.cause);
  if (!what.remedy.empty()) fmt::print(to, "remedy: {}\n", what.remedy);
  return exit_code(status.code());
}

}  // namespace libft::ftctl
