// SPDX-License-Identifier: LGPL-2.1-or-later
// Random bytes from the kernel: for incarnations and keys. Any thread.
#pragma once

#include <cstdint>
#include <span>

#include "libft/status.h"

namespace libft::os {

// Fills `bytes`. Waits, early after boot, until the kernel has entropy.
Status random_bytes(std::span<std::uint8_t> bytes);

}  // namespace libft::os
