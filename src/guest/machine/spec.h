// SPDX-License-Identifier: LGPL-2.1-or-later
// How people and primaries describe a machine:
// "IMAGE,mib=128,harts=2,initrd=FILE,append=console=ttyS0", and the compatibility string of
// GuestInfo. Both sides of each stand here.
#pragma once

#include <string>
#include <string_view>

#include "libft/status.h"
#include "options.h"

namespace libft::machine {

// Reads the files that are named. Keys: mib, harts, smp (turns or threads), quantum, mac, initrd,
// disk (read-only), rwdisk, and append, which takes all that is left.
Status read_spec(std::string_view spec, MachineOptions& options, std::string& disk_file);

std::string compatibility_of(const MachineOptions& options, const std::string& disk_file);
// A machine without contents that accepts the one which said `text`; reads the disk's file again. A
// writable disk is a file of this host's: `own_file`, or what the primary calls its own.
Status read_compatibility(std::string_view text, MachineOptions& options, std::string& disk_file,
                          const std::string& own_file = {});

}  // namespace libft::machine
