// SPDX-License-Identifier: LGPL-2.1-or-later
// The signals that end a serving process, as a descriptor to be polled.
#pragma once

#include "descriptor.h"

namespace libft::ftctl {

// Blocks SIGTERM, SIGINT and SIGHUP. Before any thread is started, so that all of them inherit it.
Result<Descriptor> take_signals();

}  // namespace libft::ftctl
