// SPDX-License-Identifier: LGPL-2.1-or-later
// The machine as Linux learns of it: a generated device tree. A pure function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "options.h"

namespace libft::machine {

std::vector<std::byte> device_tree(const MachineOptions& options, std::uint64_t initrd_at);

}  // namespace libft::machine
