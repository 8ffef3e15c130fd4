// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens the TAP device through which a guest's frames reach the host's network. FramesGate writes
// what it releases to it. Any thread; it acts on the calling thread's network namespace.
#pragma once

#include <string>

#include "os/fd.h"

namespace libft::output {

// Creates the device, or attaches to a persistent one of that name, and sets it up. One read or
// write is one frame, without a header. `refused` needs CAP_NET_ADMIN, or a device made for this
// user (`ip tuntap add NAME mode tap user USER`) and already up.
Result<os::ScopedFd> open_tap(const std::string& name);

}  // namespace libft::output
