// SPDX-License-Identifier: LGPL-2.1-or-later
#include "command_check.h"

#include <fmt/format.h>
#include <unistd.h>

#include "os/child.h"

namespace libft::host {
namespace {

// Less than the primary waits for an acknowledgement before it goes on alone.
constexpr Nanos kPatience = Millis{1500};

}  // namespace

Result<CommandCheck> CommandCheck::make(const std::string& program, const GuestId& guest) {
  if (!program.starts_with('/'))
    return failure(Code::invalid,
                   fmt::format("check \"{}\": give the program from the root: /PROGRAM", program));
  if (::access(program.c_str(), X_OK) != 0)
    return failure(os::errno_status("check program " + program));
  return CommandCheck(program, guest.name());
}

Status CommandCheck::operator()(const Guest& copy) const {
  os::ChildOptions options;
  options.argv = {program_, guest_, std::to_string(::getpid())};
  for (const MemoryRegion& region : copy.info().memory) {
    const auto at = reinterpret_cast<std::uintptr_t>(region.bytes.data());
    for (const std::string& word :
         {region.name, std::to_string(at), std::to_string(region.bytes.size())})
      options.argv.push_back(word);
  }
  options.stderr_fd = STDERR_FILENO;
  options.own_session = true;
  FT_ASSIGN(os::Child child, os::Child::start(options));
  const auto end = child.wait(kPatience);
  if (!end) {
    child.kill_and_reap();
    return end.error().within("check: " + program_);
  }
  if (end->clean()) return {};
  return Status(Code::refused, fmt::format("{} ended with {}", program_, to_string(*end)));
}

}  // namespace libft::host
