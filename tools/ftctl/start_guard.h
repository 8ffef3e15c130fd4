// SPDX-License-Identifier: LGPL-2.1-or-later
// What the start guard (failover/start_guard.h) says, in ftctl's words. Pure; any thread.
#pragma once

#include <string>

#include "libft/arbiter.h"

namespace libft::ftctl {

struct StartQuestion {
  std::string guest;
  std::string host;         // This one, as its replicas are called in the record.
  bool configured = false;  // Somebody wants it protected: its record cannot just not be there.
};

// Ok: it may be started. Else why not, and what helps.
Status may_start(const StartQuestion& question, const ReadAnswer& answer);

}  // namespace libft::ftctl
