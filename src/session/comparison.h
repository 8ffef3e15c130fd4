// SPDX-License-Identifier: LGPL-2.1-or-later
// The Comparison is what a PrimaryRunner does beside its checkpoints while the backup runs the
// guest, too: it says which checkpoints the backup is to run from, and lets single frames out once
// it does. Session's thread, except on_frames_out().
//
//            captured(run)               on_followed(), released()
//   resting ----------------> loading ------------------------------> comparing
//      ^  rest(), captured(without)  |                                   |
//      +-----------------------------+-----------------------------------+
#pragma once

#include <atomic>
#include <functional>
#include <optional>

#include "libft/session.h"
#include "strategy/compare/economy.h"
#include "strategy/compare/referee.h"

namespace libft::session {

class Comparison {
 public:
  struct Sinks {  // On any thread; they return quickly.
    std::function<void()> copies_wait;
    std::function<void()> checkpoint;  // checkpoint_wanted() may be true.
    std::function<void()> deadline_set;
  };
  // `replica` has a ComparedGate, which rewrites nothing, and an InputTap.
  Comparison(const Replica& replica, const Clock& clock, const GuestId& guest,
             const SessionOptions& options, Sinks sinks);

  // Around each checkpoint: before its pause, and while the guest stands and is sealed.
  void begin_checkpoint(EpochId id);
  // The one that has begun is to be run from.
  bool worth_it() const { return economy_.worth(clock_.now()); }
  void captured(EpochId id, compare::Referee::Then then);

  // The backup's guest runs from that checkpoint; what its epoch sent is released, up to there. The
  // answer: how long it took from the capture, when it is compared from now on.
  std::optional<Nanos> on_followed(EpochId id);
  std::optional<Nanos> on_released(EpochId through);

  // Nothing is let out by comparison before the next captured(). Idempotent.
  void rest();
  bool rests() const { return !from_; }
  // What the guest says waits for a checkpoint; once, until the next one.
  bool checkpoint_wanted() { return wanted_.exchange(false); }

  std::optional<Time> wake_at() const;
  // False: the backup's guest did not run in time. It rests, then.
  bool tick();

  std::vector<std::byte> take_copies() { return referee_.take_copies(); }
  CompareStatus status() const;

  // The connection's receiver.
  Status on_frames_out(const wire::Frame& frame) { return referee_.on_frames_out(frame); }

 private:
  std::optional<Nanos> begin_when_ready();
  void judge_run();
  void end_run();

  const Clock& clock_;
  const Nanos reload_max_;
  compare::Economy economy_;
  std::optional<EpochId> from_, followed_;  // What the backup runs from, or will; and does.
  EpochId released_;
  Time captured_at_;
  compare::ComparatorStatistics at_capture_;
  bool comparing_ = false;
  std::atomic<bool> wanted_{false};
  compare::Referee referee_;  // Last: its sinks use the rest.
};

}  // namespace libft::session
