// SPDX-License-Identifier: LGPL-2.1-or-later
// What reaches this host for a guest that runs elsewhere. Once that host has died, a switch, whose
// port to it is down, forgets who was there and sends what is for them to every port. The bridge
// here drops that: it knows of the guest only that it is where the frame came from. So a gate on
// standby listens beside it, at the bridge's other ports.
// Any thread; acts on the calling thread's network namespace.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "libft/status.h"
#include "os/fd.h"

namespace libft::output {

using MacAddress = std::array<std::uint8_t, 6>;

// Sockets that get a copy of what comes in for `guest` at each other port of the Linux bridge that
// `tap` is a port of, now. None without such a bridge, or without an address. The kernel tells
// frames apart, so that others' cost little. Not copied: frames with a VLAN tag, of which only the
// bridge knows whether the guest is to see them. Needs CAP_NET_RAW, else `refused`.
Result<std::vector<os::ScopedFd>> listen_beside(const std::string& tap,
                                                std::span<const MacAddress> guest);

// The next frame, in `room`, as a guest expects it from a network: checksums that the sender left
// to its network card are filled in. Empty: none waits. Frames that would have to be cut into
// several, or do not fit, are left out. REQUIRES: a socket of listen_beside().
std::span<std::byte> receive_frame(int socket, std::span<std::byte> room);

}  // namespace libft::output
