// SPDX-License-Identifier: LGPL-2.1-or-later
// How long the guest itself was held up, as a thread in it that sleeps a millisecond at a time has
// noticed (tools/lab/guest/stalls.h). Asked from the client's place outside. One thread at a time.
#pragma once

#include <cstdint>

#include "lab/xen/pair.h"

namespace libft::lab {

class GuestStalls {
 public:
  // Begins to watch. REQUIRES: the guest is not checkpointed yet, or its clock is gauged wrongly.
  static Result<GuestStalls> begin(XenPair& pair);

  Status forget();  // Those up to now.
  // The nth longest of those since, in milliseconds; 0 when there were fewer.
  Result<double> longest(std::uint64_t n);

 private:
  explicit GuestStalls(os::ScopedFd socket) : socket_(std::move(socket)) {}
  Result<std::uint64_t> ask(std::uint64_t argument);

  os::ScopedFd socket_;  // Connected to the guest.
};

}  // namespace libft::lab
