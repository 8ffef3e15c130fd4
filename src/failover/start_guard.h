// SPDX-License-Identifier: LGPL-2.1-or-later
// The start guard: whether a guest may be started on a host by whoever starts guests when that host
// comes up. A host that died with a protected guest must not start its stale copy beside the one
// that took over. Pure; any thread.
#pragma once

#include <string_view>

#include "libft/arbiter.h"

namespace libft::failover {

enum class MayStart {
  yes,              // Nobody else runs it, or can come to.
  owned_elsewhere,  // Another host's replica owns it.
  held_by_backup,   // Its life on this host is over, and a backup may be taking over now.
  no_record,        // It was never protected; or the arbiter has lost its record.
  unknown,          // The arbiter does not say.
};

// `host`: as its replicas are called in the record.
inline MayStart may_start(std::string_view host, const ReadAnswer& answer) {
  if (answer.outcome == ReadAnswer::Outcome::unknown) return MayStart::unknown;
  if (answer.outcome == ReadAnswer::Outcome::missing) return MayStart::no_record;
  if (answer.record.ended) return MayStart::yes;
  if (answer.record.owner.host != host) return MayStart::owned_elsewhere;
  // Nobody else may try to take over: only replicas that the record lists do.
  return answer.record.in_sync.size() <= 1 ? MayStart::yes : MayStart::held_by_backup;
}

}  // namespace libft::failover
