// SPDX-License-Identifier: LGPL-2.1-or-later
// The Checkpointer does the phases in which the guest stands still: pause, capture, seal, resume.
// It knows ports only. Session's thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "libft/clock.h"
#include "libft/guest.h"
#include "libft/output_gate.h"
#include "libft/staging_arena.h"
#include "strategy/checkpoint/captured_epoch.h"

namespace libft::checkpoint {

struct CaptureOrder {
  EpochId id;
  bool begin_hold = false;   // The gate begins to hold at this pause.
  bool stay_paused = false;  // Leave the guest paused: for a switch-over, or because it ended.
  bool guest_ended = false;
  bool guest_paused = false;  // Its owner paused it: the backup is to know.
  bool rebase = false;        // For the image alone: the epoch travels as a log.
  bool run = false;           // The backup is to run the guest from it.
  // Called when everything is sealed, while the guest still stands; what it does is not undone.
  std::function<void()> sealed{};
};

class Checkpointer {
 public:
  // `slots` captured epochs can exist at a time (inflight_max + 1). Slots are reserved at once,
  // each for the whole guest, `staging_bytes` of it backed by memory.
  static Result<std::unique_ptr<Checkpointer>> make(Guest& guest, OutputGate& gate,
                                                    StagingArena& arena, const Clock& clock,
                                                    unsigned slots, std::size_t staging_bytes);
  ~Checkpointer();

  bool slot_free() const;

  // Runs the four phases. On failure the guest runs as before, the gate is not sealed, and pages
  // already taken from the guest's written set come again in the next capture.
  // REQUIRES: slot_free().
  Result<CapturedEpoch*> run(const CaptureOrder& order);

  // Pages that must go into the next capture and travel raw: those of epochs that never arrived.
  void carry(const PageSet& pages);
  // Pages that were taken from the guest's written set by others than run(), and go into the next
  // capture like any that the guest wrote.
  void want(const PageSet& pages);

  // The slot may be used again.
  void give_back(CapturedEpoch* epoch);
  // All slots may be used again. REQUIRES: whoever encoded from them has stopped.
  void reclaim();

 private:
  struct Impl;
  explicit Checkpointer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace libft::checkpoint
