// SPDX-License-Identifier: LGPL-2.1-or-later
// When the next checkpoint is due. A value and a function of what is known: pure.
// Checkpointing an idle guest at long intervals and one with output waiting at once is in the
// literature (and in US9652338; see docs/patents.md).
#pragma once

#include <optional>

#include "libft/types.h"

namespace libft::core {

struct IntervalOptions {
  enum class Kind {
    fixed,     // Every `interval`, whatever the guest does.
    adaptive,  // At once (within `floor`) when output waits; else by dirty rate, up to `idle`.
  };
  Kind kind = Kind::adaptive;
  Nanos interval =
      Millis{25};             // fixed: the interval. adaptive: the shortest while no output waits.
  Nanos floor = Millis{4};    // The shortest run between two pauses.
  Nanos idle = Millis{1000};  // adaptive: the longest time between two checkpoints.
  // adaptive: checkpoint before about so many pages are written, so that no pause grows long.
  std::uint64_t pages_wanted = 2000;
  // adaptive: the guest runs at least this share of the time, in percent; stretches `floor`.
  unsigned run_percent_min = 40;
};

// What is known of the last checkpoint.
struct LastCheckpoint {
  Time resumed_at;          // When the guest began to run again.
  Nanos stopped{0};         // How long it had stood still.
  Nanos ran{0};             // How long it had run before that.
  std::uint64_t pages = 0;  // How many pages were written meanwhile.
};

// The moment at which the next checkpoint is due, given since when output waits (if it does).
Time next_checkpoint(const IntervalOptions& options, const LastCheckpoint& last,
                     bool output_waiting);

}  // namespace libft::core
