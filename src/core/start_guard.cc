// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/start_guard.h"

namespace libft::core {

MayStart may_start(std::string_view host, const ReadAnswer& answer) {
  if (answer.outcome == ReadAnswer::Outcome::unknown) return MayStart::unknown;
  if (answer.outcome == ReadAnswer::Outcome::missing) return MayStart::no_record;
  if (answer.record.ended) return MayStart::yes;
  if (answer.record.owner.host != host) return MayStart::owned_elsewhere;
  // Nobody else may try to take over: only replicas that the record lists do.
  return answer.record.in_sync.size() <= 1 ? MayStart::yes : MayStart::held_by_backup;
}

}  // namespace libft::core
