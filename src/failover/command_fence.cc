// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/command_fence.h"

#include <fmt/format.h>
#include <unistd.h>

#include "os/child.h"
#include "os/fd.h"

namespace libft::failover {

Status CommandFence::fence(const GuestId& guest, const Incarnation& loser) {
  const std::string doing = fmt::format("fence {} off host \"{}\"", guest.name(), loser.host);
  // The host's name is the peer's own word: it must not become an option of the program.
  if (loser.host.empty() || loser.host.starts_with('-') || guest.name().starts_with('-'))
    return Status(Code::invalid, doing +
                                     ": a name that is empty or begins with '-' is not passed "
                                     "to a program");
  os::ChildOptions options;
  options.argv = {program_, guest.name(), loser.host};
  options.own_session = true;
  auto child = os::Child::start(options);
  if (!child) return child.error().within(doing);
  const auto end = child->wait(deadline_);
  if (!end && end.error().code() == Code::timeout) {
    child->kill_and_reap();
    return Status(Code::timeout, fmt::format("{}: {} took longer than {} ms and was killed", doing,
                                             program_, deadline_ / Millis{1}));
  }
  if (!end) return end.error().within(doing);
  if (end->clean()) return {};
  return Status(Code::io, fmt::format("{}: {} ended with {}", doing, program_, to_string(*end)));
}

namespace {

constexpr std::string_view kExec = "exec:";

}  // namespace

Result<std::unique_ptr<Fence>> open_fence(std::string_view spec, Nanos deadline) {
  if (spec == "none") return std::make_unique<NoFence>();
  if (!spec.starts_with(kExec))
    return failure(Code::invalid, fmt::format("fence \"{}\": use none, or exec:/PROGRAM", spec));
  const std::string program(spec.substr(kExec.size()));
  if (!program.starts_with('/'))
    return failure(
        Code::invalid,
        fmt::format("fence \"{}\": give the program from the root: exec:/PROGRAM", spec));
  // Learnt now rather than in the moment of need.
  if (::access(program.c_str(), X_OK) != 0)
    return failure(os::errno_status("fence program " + program));
  return std::make_unique<CommandFence>(program, deadline);
}

}  // namespace libft::failover
