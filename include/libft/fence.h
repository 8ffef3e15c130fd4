// SPDX-License-Identifier: LGPL-2.1-or-later
// A Fence makes sure that the loser of a failover is silent before the winner speaks: power off its
// host, unmap its storage, close its switch port. libft is safe without one (the arbiter's swap
// decides, and a loser's output is held); a fence covers what a held gate cannot: a hypervisor that
// runs on while libft's own process is stopped. Called from the arbiter's thread.
#pragma once

#include <memory>
#include <string>

#include "libft/status.h"
#include "libft/types.h"

namespace libft {

class Fence {
 public:
  virtual ~Fence() = default;
  virtual std::string description() const = 0;

  // Returns ok when `loser` certainly does nothing more for `guest`. A failure is logged and the
  // promotion goes on: safety does not rest on it.
  virtual Status fence(const GuestId& guest, const Incarnation& loser) = 0;
};

}  // namespace libft
