// SPDX-License-Identifier: LGPL-2.1-or-later
// A Landmark is where a follower and its primary were last known to be equal: an image of the guest
// there, and the logs that were executed since. When the two come apart, that is what can be
// executed again to find out how (examine.h). It costs as much memory as the guest has, and at each
// hash a copy of the pages that were written since the one before.
// One thread at a time; the guest outlives it, until they came apart.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "libft/deterministic_guest.h"
#include "strategy/replay/image.h"
#include "wire/log.h"

namespace libft::replay {

class Landmark {
 public:
  // The guest stands where the log begins.
  static Result<std::unique_ptr<Landmark>> set(Guest& guest, DeterministicGuest& exact);
  ~Landmark();
  Landmark(const Landmark&) = delete;
  Landmark& operator=(const Landmark&) = delete;

  // The guest executed `log`, and both are equal; with a hash in it: known to be equal.
  Status passed(wire::LogEpoch log);
  // The guest executed `log`, and they are not. The landmark keeps what the guest is now, and does
  // without the guest from here on.
  Status came_apart(wire::LogEpoch log);

  // It is of no use any more, except after came_apart().
  void leave_guest();

  // REQUIRES, of all: came_apart().
  const Image& equal() const { return equal_; }
  const Image& apart() const { return apart_; }
  const std::vector<wire::LogEpoch>& logs() const { return logs_; }  // The last led apart.
  // Two guests to execute them again in.
  GuestCopy& one() { return copies_[0]; }
  GuestCopy& other() { return copies_[1]; }

 private:
  Landmark(Guest& guest, DeterministicGuest& exact) : guest_(&guest), exact_(&exact) {}
  void keep(wire::LogEpoch log);

  Guest* guest_;
  DeterministicGuest* exact_;
  Image equal_, apart_;
  std::array<GuestCopy, 2> copies_;
  std::vector<wire::LogEpoch> logs_;
  std::size_t log_bytes_ = 0;
  bool complete_ = true;  // All logs since are here.
};

}  // namespace libft::replay
