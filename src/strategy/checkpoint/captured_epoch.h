// SPDX-License-Identifier: LGPL-2.1-or-later
// A CapturedEpoch is what one pause brought home: copies of the written pages in staging memory and
// the device state. It goes from the checkpointer (session's thread) to the encoder (replicator's
// thread) and back, one owner at a time.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "libft/page_set.h"
#include "libft/types.h"

namespace libft::checkpoint {

// One duration a phase, in their order. replicate, acknowledge and release are filled in later.
struct PhaseTimes {
  Nanos handshake{0};  // A cooperative guest's way to its pause; until shortly before, it runs.
  Nanos pause{0}, capture{0}, seal{0}, resume{0}, replicate{0}, acknowledge{0}, release{0};
  Nanos stopped() const { return pause + capture + seal + resume; }  // What the guest felt.
};

struct CapturedEpoch {
  EpochId id;
  bool first = false;         // The epoch at which the gate began to hold; completes the image.
  bool guest_ended = false;   // The guest ended on purpose in this epoch: record it, do not run it.
  bool guest_paused = false;  // Its owner had paused it: it stays paused after a promotion.
  bool rebase = false;        // For the image alone: the epoch travels as a log.
  bool run = false;           // The backup runs the guest from it.
  PageSet pages;              // In the order of the copies in `staging`.
  std::span<std::byte> staging;  // pages.pages() pages, back to back.
  std::vector<std::byte> state;  // Fetched after resume.
  PageSet raw;  // These must be sent raw: the reference image may be wrong for them.
  Time paused_at, resumed_at;
  PhaseTimes times;
};

}  // namespace libft::checkpoint
