// SPDX-License-Identifier: LGPL-2.1-or-later
// A check of an executed copy by a program of the operator's: one that looks for what an intruder
// or a broken program leaves behind. It is run as PROGRAM GUEST PID REGION OFFSET BYTES ...,
// without a shell: from OFFSET on, /proc/PID/mem has the BYTES of the guest's REGION ("ram",
// "disk"), which do not change meanwhile. Exit code 0: all well. A program that cannot be run, or
// takes longer than 1.5 s, counts as one that found something. Blocks: the follower's thread calls
// it.
#pragma once

#include <string>

#include "libft/guest.h"
#include "libft/types.h"

namespace libft::host {

class CommandCheck {
 public:
  // Fails when there is no such program.
  static Result<CommandCheck> make(const std::string& program, const GuestId& guest);
  Status operator()(const Guest& copy) const;

 private:
  CommandCheck(std::string program, std::string guest)
      : program_(std::move(program)), guest_(std::move(guest)) {}

  std::string program_, guest_;
};

}  // namespace libft::host
