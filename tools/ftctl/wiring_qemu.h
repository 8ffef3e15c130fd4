// SPDX-License-Identifier: LGPL-2.1-or-later
// Part of the wiring: QEMU guests and the gate for their frames.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "libft/session.h"
#include "wiring.h"

namespace libft::ftctl {

struct OpenedQemu {
  Replica replica;
  GuestProcess process;
};

// `guard` goes to the gate. The files of the guest (sockets, log) are named after it, in the state
// directory; `serial` makes them differ between its lives. `moved`, on any thread: a standby is
// another process from now on.
Result<OpenedQemu> open_qemu(const Settings& settings, const GuestId& guest,
                             const GuestSource& source, std::shared_ptr<ReleaseGuard> guard,
                             Log& log);
Result<OpenedQemu> take_up_qemu(const Settings& settings, const GuestId& guest,
                                const GuestProcess& left, bool standby, bool set_running,
                                std::shared_ptr<ReleaseGuard> guard, Log& log);
Result<OpenedQemu> open_qemu_standby(const Settings& settings, const GuestId& guest,
                                     const GuestInfo& primary, unsigned serial,
                                     std::function<void(GuestProcess)> moved,
                                     std::shared_ptr<ReleaseGuard> guard, Log& log);

}  // namespace libft::ftctl
