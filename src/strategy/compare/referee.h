// SPDX-License-Identifier: LGPL-2.1-or-later
// The Referee is the primary's half of a comparison: it shows the Comparator what the guest sends,
// what the follower said and what the world sends, lets out of the gate what the Comparator
// releases, and collects the copies that the follower is to get. The gate, the connection's
// receiver and the session call it, each on its own thread.
//
//   begin_checkpoint(k)   [pause, capture, seal]   captured(k)   [resume]   ...   follower_runs(k)
//
// REQUIRES: the gate rewrites nothing.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "libft/clock.h"
#include "libft/compared_gate.h"
#include "libft/input_tap.h"
#include "strategy/compare/comparator.h"
#include "wire/copies.h"

namespace libft::compare {

class Referee {
 public:
  struct Sinks {  // On any thread; they return quickly, and call neither the gate nor the Referee.
    std::function<void()> copies_wait;       // take_copies() has some; told once.
    std::function<void(Reason)> checkpoint;  // Needed, once, until captured().
    std::function<void()> deadline_set;      // deadline() is another one.
  };
  Referee(ComparedGate& gate, InputTap& tap, const Clock& clock, const GuestId& guest,
          const ComparatorOptions& options, Sinks sinks);
  ~Referee();  // Both are as before it came.

  // --- the session's thread ---------------------------------------------------------------------

  // Before the guest is paused for it. What comes in from now on is for the follower of `id`: the
  // guest may still take it before it stands still, and then that one gets it twice.
  void begin_checkpoint(EpochId id);
  enum class Then { follower, nobody };  // Who runs from it.
  // The guest stands still, its output is sealed.
  void captured(EpochId id, Then then);
  // The backup says so. REQUIRES: what checkpoint `id` sealed is released.
  void follower_runs(EpochId id);
  // Nothing is compared before the next captured(): the connection broke, or a swap of the record
  // is out.
  void rest();
  bool compares() const;  // A follower runs, or is about to.

  std::optional<Time> deadline() const;
  void tick();
  std::vector<std::byte> take_copies();
  ComparatorStatistics statistics() const;

  // --- the connection's receiver ----------------------------------------------------------------

  // frames_out. Those of another follower than the newest checkpoint's are passed over.
  Status on_frames_out(const wire::Frame& frame);

 private:
  void judge(FrameNo number, unsigned nic, std::span<const std::byte> frame,
             std::vector<FrameNo>& leave);
  void on_world(unsigned nic, std::span<const std::byte> frame);
  void say(Reason reason);
  void watch_deadline();  // REQUIRES: mutex_

  static constexpr std::size_t kCopiesBytesMax = 1u << 20;  // Beyond, copies are left out.

  ComparedGate& gate_;
  InputTap& tap_;
  const Clock& clock_;
  const Sinks sinks_;
  mutable std::mutex mutex_;  // Taken inside the gate's; let_out() is called without it.
  Comparator comparator_;
  wire::CopiesWriter copies_;
  EpochId came_after_;           // The checkpoint whose follower is to get what comes in.
  std::optional<EpochId> from_;  // Where the follower runs from, or will.
  std::optional<Time> deadline_told_;
  bool told_ = false;
};

}  // namespace libft::compare
