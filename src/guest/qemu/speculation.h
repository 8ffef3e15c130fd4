// SPDX-License-Identifier: LGPL-2.1-or-later
// A standby that executes ahead of its image, and is rolled back. A QEMU process can load a device
// state only once: so there is a pool of warm ones, which wait for a state and share one memory,
// and each reload() takes the next. The image lies beside that memory, in this process.
//
//   image  --- pages that the guest wrote itself, and those that changed here --->  shared memory
//                                                                     ^    ^          ^
//                                         the process that executes --+    +-- warm --+
//
// The NICs' sockets of the process that executes are found under the names that the first one has
// on its command line: whoever talks to them finds the newest there.
#pragma once

#include <memory>
#include <string>

#include "guest/qemu/qemu_guest.h"
#include "libft/speculative_guest.h"

namespace libft::qemu {

class SpeculativeStandby : public QemuGuest, public SpeculativeGuest {
 public:
  // A standby as start_standby() makes it, until begin_speculation(). The pool's processes are
  // started with the same options and other names for their sockets and logs, ".w1" and so on.
  static Result<std::unique_ptr<SpeculativeStandby>> start(const GuestInfo& primary,
                                                           const QemuStandbyOptions& options);

  // Where the process that executes has its monitor: another one after each reload().
  virtual std::string monitor() const = 0;
};

}  // namespace libft::qemu
