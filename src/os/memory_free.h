// SPDX-License-Identifier: LGPL-2.1-or-later
// How much memory this host could give to a guest. Any thread.
#pragma once

#include <cstdint>

namespace libft::os {

// MemAvailable of /proc/meminfo, in bytes; 0 when it cannot be told.
std::uint64_t memory_bytes_free();

}  // namespace libft::os
