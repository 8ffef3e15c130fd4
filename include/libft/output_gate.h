// SPDX-License-Identifier: LGPL-2.1-or-later
// An OutputGate holds what a guest sends until libft may let it go: that is output commit.
// Implement it for another kind of output. A gate starts *held*: nothing leaves before open().
// All calls come from the session's thread; the gate's own pump may be another thread.
#pragma once

#include <cstdint>
#include <functional>

#include "libft/status.h"
#include "libft/types.h"

namespace libft {

struct GateLimits {
  std::uint32_t epochs_held_max = 1;  // How many sealed, unreleased epochs it can tell apart.
  std::uint64_t bytes_held_max = 0;   // At this limit it refuses more: the guest sees a full link.
};

struct GateStatistics {
  std::uint64_t packets_held = 0;      // Now.
  std::uint64_t bytes_held = 0;        // Now.
  std::uint64_t packets_released = 0;  // Ever.
  std::uint64_t packets_dropped = 0;   // Ever: limit reached or link refused. Each is an event.
  std::uint64_t packets_discarded = 0; // Ever: held output of a fenced replica.
  std::uint64_t packets_in = 0;        // Ever: towards the guest.
};

class OutputGate {
 public:
  virtual ~OutputGate() = default;

  virtual GateLimits limits() const = 0;

  // Called by the gate, from any of its threads, when held output goes from none to some since the
  // last seal. Returns quickly.
  virtual void set_waiting_sink(std::function<void()> sink) = 0;

  // Begins to hold. Output that left before stays out; all later output is held.
  virtual Status hold() = 0;

  // All output held and not yet sealed belongs to `id`. REQUIRES: the guest is paused, so that
  // everything it sent in the epoch has reached the gate; ids ascend.
  virtual Status seal(EpochId id) = 0;

  // Lets out everything sealed up to and including `id`, in order.
  virtual Status release(EpochId id) = 0;

  // Drops everything held, sealed or not, and stays held: for a replica that lost.
  virtual void discard() = 0;

  // Lets out everything held and holds no more: for a guest that runs alone or unprotected.
  virtual Status open() = 0;

  virtual GateStatistics statistics() const = 0;  // Any thread.
};

}  // namespace libft
