// SPDX-License-Identifier: LGPL-2.1-or-later
// An InputTap sees what comes in for a guest, and can deliver it once more: a facet that some output
// gates have. With it, requests that reached the primary after the epoch that was restored need not
// wait for their sender's retransmission after a failover.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "libft/status.h"
#include "libft/types.h"

namespace libft {

class InputTap {
 public:
  virtual ~InputTap() = default;

  // Sees a copy of each frame that goes in to the guest, in order, before the guest does. Called on
  // a thread of the gate's; returns quickly. Once this returned, the sink before is not running.
  virtual void set_input_sink(
      std::function<void(std::span<const std::byte> frame, unsigned nic)> sink) = 0;

  // Delivers a recorded frame to the guest, after those delivered before it. Any thread.
  virtual Status inject_input(unsigned nic, std::span<const std::byte> frame) = 0;

  // For a promotion, before the gate that was on standby is opened: delivers what the network
  // brought to this host for the guest within the last `age`, which nobody has answered if the
  // primary's host died before that. Best effort. How many frames; the default has none.
  virtual std::size_t deliver_recent(Nanos age) {
    (void)age;
    return 0;
  }
};

}  // namespace libft
