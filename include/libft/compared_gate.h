// SPDX-License-Identifier: LGPL-2.1-or-later
// A ComparedGate is an output gate's second, optional facet, for a guest that runs on both hosts:
// single frames leave as soon as both have said the same, and what the backup's guest says leads
// elsewhere than to the world. FramesGate implements it. Threads: as each comment says.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "libft/types.h"

namespace libft {

// A held frame's number, in the order in which the gate got them; ascending as long as it lives.
using FrameNo = Number<struct FrameNoTag>;

class ComparedGate {
 public:
  // --- on the primary ---------------------------------------------------------------------------

  // Sees each frame that comes to be held, in order, as the guest sent it, and adds to `leave`
  // those that may leave at once: this one, or earlier ones. On any thread, one at a time; returns
  // quickly and must not call the gate. An empty judge: all wait for their epoch.
  using Judge = std::function<void(FrameNo number, unsigned nic, std::span<const std::byte> frame,
                                   std::vector<FrameNo>& leave)>;
  virtual void set_judge(Judge judge) = 0;

  // Lets out single held frames before their epoch, in this order, behind what an epoch let out
  // before. Frames that have left, or were discarded, are passed over. Any thread.
  virtual void let_out(std::span<const FrameNo> frames) = 0;

  // --- on the backup ----------------------------------------------------------------------------

  // From now on `sink` gets what the guest sends that is at the gate's port now, as it sent it, and
  // nobody else does; nothing of what another one sent there before. An empty sink: it is dropped.
  // Ends with hold() or open(). The sink is called on a thread of the gate's, returns quickly and
  // must not call the gate; once this returned, the sink before is not running.
  // REQUIRES: neither hold() nor open() was called yet.
  using FollowerSink = std::function<void(unsigned nic, std::span<const std::byte> frame)>;
  virtual void follow(FollowerSink sink) = 0;

  // --- on both ----------------------------------------------------------------------------------

  // Changes frames in place, on their way: in to the guest (those of inject_input() too), and out,
  // behind judge and sink. Called on any thread, several at a time; quick. Empty: as they are.
  struct Rewrite {
    std::function<void(unsigned nic, std::span<std::byte> frame)> to_guest, to_world;
  };
  virtual void set_rewrite(Rewrite rewrite) = 0;

 protected:
  ~ComparedGate() = default;
};

}  // namespace libft
