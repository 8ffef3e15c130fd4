// SPDX-License-Identifier: LGPL-2.1-or-later
#include "start_guard.h"

#include <fmt/format.h>

#include "failover/start_guard.h"
#include "report.h"

namespace libft::ftctl {

Status may_start(const StartQuestion& question, const ReadAnswer& answer) {
  switch (failover::may_start(question.host, answer)) {
    case failover::MayStart::yes: return {};
    case failover::MayStart::owned_elsewhere:
      return with_remedy(
          Code::fenced,
          fmt::format("guest {} is owned by {}", question.guest, to_string(answer.record.owner)),
          "run `ftctl standby` here to be its backup");
    case failover::MayStart::held_by_backup:
      return with_remedy(
          Code::refused,
          fmt::format("the life of guest {} on this host is over, and a backup holds its state",
                      question.guest),
          "let the backup carry on (`ftctl failover` there), or begin anew with `ftctl protect "
          "--anew`");
    case failover::MayStart::no_record:
      if (!question.configured) return {};
      return with_remedy(
          Code::refused,
          fmt::format("guest {} is to be protected, and there is no record of it", question.guest),
          "if it was never protected, start it by hand once and `ftctl protect` it; else restore "
          "the arbiter's records");
    case failover::MayStart::unknown: break;
  }
  return with_remedy(
      Code::timeout,
      fmt::format("the arbiter does not say who owns guest {}: {}", question.guest, answer.detail),
      "see that it answers (`ftctl doctor --arbiter SPEC`), then try again");
}

}  // namespace libft::ftctl
