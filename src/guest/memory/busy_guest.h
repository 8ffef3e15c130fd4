// SPDX-License-Identifier: LGPL-2.1-or-later
// A memory guest that works by itself, on a thread of its own: something to protect where there is
// no hypervisor. Threads: as the port says.
#pragma once

#include "guest/memory/memory_guest.h"

namespace libft::guest {

// It writes `pages` pages every 10 ms while it runs.
std::unique_ptr<Guest> make_busy(std::unique_ptr<MemoryGuest> guest, std::uint64_t pages);

}  // namespace libft::guest
