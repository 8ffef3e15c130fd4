// SPDX-License-Identifier: LGPL-2.1-or-later
// Builds, or finds again, the lab's guest (make-guest.sh) and says how to start it; other labs run
// their own scripts with the first half of it. Any thread.
#pragma once

#include <string>
#include <vector>

#include "libft/types.h"

namespace libft::lab {

struct GuestImage {
  std::string kernel, initrd, command_line;

  // `-kernel ... -initrd ... -append ...` for QEMU.
  std::vector<std::string> qemu_arguments(const std::string& address_and_prefix,
                                          const std::string& observer_address) const;
};

// Runs an image script with `folder`, which keeps what it made for the next time, and returns the
// path that it printed. A failure carries what it complained of.
Result<std::string> run_image_script(const std::string& script, const std::string& folder,
                                     Nanos patience);

// `script` is tools/lab/make-guest.sh; `folder` keeps images for the next time. The first time it
// downloads Debian packages: call it outside the lab's namespaces, and give it minutes.
Result<GuestImage> make_guest(const std::string& script, const std::string& folder, Nanos patience);

}  // namespace libft::lab
