// SPDX-License-Identifier: LGPL-2.1-or-later
// The table of arbiters: from what an operator writes to an Arbiter. Any thread; does not block.
#pragma once

#include "libft/arbiter.h"
#include "libft/session.h"

namespace libft::failover {

// "file:/srv/ft"                                   a directory that all replicas see
// "etcd:http://a:2379,http://b:2379"               options behind '?', joined by '&':
//    ?ca=FILE&cert=FILE&key=FILE&user=NAME&password-file=FILE&connect-ms=300&total-ms=1000
// "manual:/var/lib/libft/arbiter"                  this host's own; a person decides
// "none", and anything else, is refused with the choices.
Result<std::unique_ptr<Arbiter>> open_arbiter(std::string_view spec);

// A person decided that the replica of that status goes on alone: what a manual arbiter waits for
// (ManualArbiter::permit). Writes to its folder; for other arbiters there is nothing to do.
Status permit(std::string_view spec, const GuestId& guest, const SessionStatus& status);

}  // namespace libft::failover
