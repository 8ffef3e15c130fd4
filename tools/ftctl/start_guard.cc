// SPDX-License-Identifier: LGPL-2.1-or-later
#include "start_guard.h"

#include <fmt/format.h>

#include "report.h"

namespace libft::ftctl {

namespace {

Status owned(const StartQuestion& question, const OwnershipRecord& record) {
  if (record.owner.host != question.host) {
    return with_remedy(
        Code::fenced,
        fmt::format("guest {} is owned by {}", question.guest, to_string(record.owner)),
        "run `ftctl standby` here to be its backup");
  }
  // Nobody else may try to take over: only replicas that the record lists do.
  if (record.in_sync.size() <= 1) return {};
  return with_remedy(
      Code::refused,
      fmt::format("the life of guest {} on this host is over, and a backup holds its state",
                  question.guest),
      "let the backup carry on (`ftctl failover` there), or begin anew with `ftctl protect "
      "--anew`");
}

}  // namespace

Status may_start(const StartQuestion& question, const ReadAnswer& answer) {
  switch (answer.outcome) {
    case ReadAnswer::Outcome::unknown:
      return with_remedy(Code::timeout,
                         fmt::format("the arbiter does not say who owns guest {}: {}",
                                     question.guest, answer.detail),
                         "see that it answers (`ftctl doctor --arbiter SPEC`), then try again");
    case ReadAnswer::Outcome::missing:
      if (!question.configured) return {};
      return with_remedy(
          Code::refused,
          fmt::format("guest {} is to be protected, and there is no record of it", question.guest),
          "if it was never protected, start it by hand once and `ftctl protect` it; else restore "
          "the arbiter's records");
    case ReadAnswer::Outcome::found: break;
  }
  return answer.record.ended ? Status{} : owned(question, answer.record);
}

}  // namespace libft::ftctl
