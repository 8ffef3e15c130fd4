// SPDX-License-Identifier: LGPL-2.1-or-later
// A witness is a third replica of a guest under lockstep: it dials the backup, executes what that
// executes, and votes. Where one of three comes to something else than the other two, that one is
// outvoted and made anew. It never owns the guest: the arbiter's record does not list it.
#pragma once

#include <memory>

#include "libft/session.h"

namespace libft {

// Of the parts it uses make_standby, dial, and what sessions share. Its status has the role
// `backup`, and the states "dialing", "syncing" (a copy of the guest is on its way) and "voting".
Result<std::unique_ptr<Session>> bear_witness(SessionParts parts, SessionOptions options);

}  // namespace libft
