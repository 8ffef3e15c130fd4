// SPDX-License-Identifier: LGPL-2.1-or-later
// The plug gate holds what a guest sends in the host's kernel: a Xen domain's vifs, or the TAP
// devices of a QEMU process with vhost or without. Frames never pass through libft; it moves one
// pointer to seal, and gives one order to release. The session's thread calls it; statistics() any
// thread. A thread of its own notices output and finishes what could not be finished at once.
//
// Where the frames are, with two queues `a` and `b` (PlugRig draws them):
//
//   sealed   in the queue that is not being filled, blocked
//   filling  in the other one, blocked, or passing through it when the gate is open
//
// Sealing changes which queue is filled. Linux' `plug` queue can tell two epochs apart by itself,
// by counting frames, but it counts without a lock: a frame that a backend still sends while the
// line is drawn may be lost from the count or counted twice, and a count that is too high lets the
// next epoch out early. A whole queue has no count. A frame that arrives while the pointer moves
// was sent before the guest was paused, so that either queue is right.
//
// The limit: a kernel queue cannot make the guest wait; at its limit it drops, and the gate counts
// and reports it. Each queue has half of bytes_held_max, by frame length; the kernel's own memory
// for small frames is up to twelve times that.
//
// When the process dies everything stays, blocked. A successor adopts it, and opens or discards it
// once the arbiter's record says which.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "libft/log.h"
#include "libft/output_gate.h"

namespace libft::output {

enum class PlugLeftovers {
  refuse,  // `busy` when an earlier process left its queues: they may hold output.
  adopt,   // Takes them over, blocked, with what they hold. Where there are none: as `refuse`.
};

struct PlugGateOptions {
  GuestId guest;
  std::vector<std::string> devices;  // All of the guest's, as `ip link` shows them on this host.
  std::uint64_t bytes_held_max = 64ull << 20;  // Kernel memory against how much a burst may hold.
  PlugLeftovers leftovers = PlugLeftovers::refuse;
  // As FramesGateOptions::may_release, asked before each epoch leaves.
  std::function<bool()> may_release;
};

// Held from the start, as every gate, and from the call on: the devices may be in use. A guest that
// runs protected by nobody wants open() next.
//
// An adopted gate holds what was sealed, and what was not, of an unknown epoch. open() and
// discard() do what they say with all of it; the first seal() afterwards seals only what was sealed
// already.
//
// Destroying an open gate takes everything out of the kernel again. Destroying any other leaves it
// blocked, as dying does.
Result<std::unique_ptr<OutputGate>> open_plug_gate(PlugGateOptions options, Log& log);

// Takes a gate's parts out of the kernel, with what they hold: for a guest that is gone, or whose
// owner wants it to run on unprotected. From then on its output passes. No parts: nothing to do.
Status remove_plug_gate(const GuestId& guest, const std::vector<std::string>& devices);

}  // namespace libft::output
