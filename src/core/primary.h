// SPDX-License-Identifier: LGPL-2.1-or-later
// The Primary is the machine of the replica that runs the guest: when to checkpoint, when output
// may go, what to ask of the arbiter, when to run alone. Events in, actions out: no I/O, no clock,
// no lock. Copyable, so that a simulation can look at what would have been.
//
//        on_backup          converged            ack of k              won
//   solo ---------> syncing ---------> joining ---------> adding ---------> protecting
//    ^                 | peer gone        | peer gone       | (unknown: ask   |  |  | suspected,
//    |<----------------+------------------+    again)       |                 |  |  | unprotect
//    |                                                      | won, peer gone  |  |  v
//    |<------------------------- won ------------------- removing <-----------|--+  |
//    |                                                      ^                 |     |
//    |                                  no answer           |   switch_over   v     |
//    |                                  +-------------------+---------- handing_over
//    |   guest ended, last output released                                    |
//    +--------------------> recording_end ---> ended         record is another's
//   lost in any state, or a record that names another owner:                  v
//                                                       fenced <--------------+
//
// For another process to take its place (hold) a primary stays protecting, its guest paused; there
// held() begins, with the peer not yet connected.
//
// The gate holds output from joining on, until OpenOutput. After an attempted swap nothing is
// released until a definite answer: the *same* swap is asked again while it is unknown, because a
// swap that was never answered may still land.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/action.h"
#include "core/interval.h"

namespace libft::core {

enum class PrimaryState {
  solo,           // Owner, alone, output open.
  syncing,        // A backup receives its first image; output open, not protected.
  joining,        // Output held from epoch k on; waiting for the acknowledgement of k.
  adding,         // The swap that adds the backup to in_sync is out.
  protecting,     // Protected.
  removing,       // The swap that makes this replica the only one is out; output held.
  handing_over,   // The backup was asked to take over; the guest is paused (or lost).
  recording_end,  // The guest ended; the swap that says so is out.
  ended,          // The guest ended and the record says so.
  fenced,         // Another replica owns the guest.
};
std::string_view to_string(PrimaryState state);

struct PrimaryOptions {
  IntervalOptions interval;
  std::uint32_t inflight_max = 2;          // Epochs captured and not yet acknowledged.
  std::uint32_t epochs_held_max = 64;      // The least of all gates.
  Nanos ask_again = Millis{100};           // After an unknown answer of the arbiter.
  Nanos handover_patience = Millis{3000};  // How long the backup may take to take over.
  // How long a backup whose heart beats may be without a connection before the guest runs alone.
  Nanos reconnect_patience = Millis{1000};
  // How long a connected backup may take to acknowledge anything of what was sent; then it is made
  // to connect anew. Bytes that never arrive whole make no noise of their own.
  Nanos ack_patience = Millis{2000};
  Nanos ack_patience_a_page = std::chrono::microseconds{80};  // 50 MB/s of raw 4 KiB pages.
  // How long the first synchronisation may stand still: nothing sent, and a device state not tried.
  Nanos sync_patience = Millis{60000};
  // This long without an event means that this replica stood still and may have been replaced: the
  // arbiter is asked before anything more is released. The detector's limit.
  Nanos stall_limit = Millis{150};
};

class Primary {
 public:
  // `record` is definite and names `self` as its owner. The next epoch is `next`.
  Primary(Incarnation self, OwnershipRecord record, Epoch next, PrimaryOptions options, Time now);

  // Goes on where another process was Held: after the acknowledged and released epoch `newest`, the
  // guest as it stood. `record` is what it was then, and is read before anything is released.
  static Primary held(Incarnation self, OwnershipRecord record, Epoch newest,
                      PrimaryOptions options, Time now);

  PrimaryState state() const { return state_; }
  const OwnershipRecord& record() const { return record_; }
  const Incarnation& self() const { return self_; }
  // How often, and how many at a time, from now on: of another strategy.
  void set_rhythm(const IntervalOptions& interval, std::uint32_t inflight_max) {
    options_.interval = interval;
    options_.inflight_max = inflight_max;
  }
  const std::optional<Incarnation>& peer() const { return peer_; }
  bool is_protected() const { return state_ == PrimaryState::protecting && peer_connected_; }
  Epoch newest_captured() const { return captured_; }
  Epoch newest_acknowledged() const { return acknowledged_; }
  EpochId newest_released() const { return released_; }
  std::uint32_t inflight() const { return static_cast<std::uint32_t>(in_flight_.size()); }
  // It stood still and has not yet heard from the arbiter that it still owns the guest.
  bool must_confirm() const { return confirm_; }
  // When to call on_tick at the latest.
  Time wake_at() const;

  // May this backup be welcomed? It then is, with on_backup; else the text says why not.
  // `resume` answers whether it may go on from the image it holds.
  struct Welcome {
    bool accepted = false, resume = false;
    std::string why;
  };
  Welcome consider(const wire::Hello& hello) const;

  // --- events; each returns what is to be done, in order -----------------------------------
  Actions on_tick(Time now);
  Actions on_backup(Time now, const wire::Hello& hello);  // Welcomed and connected.
  Actions on_sync_progress(Time now);                     // Some of the image was sent.
  Actions on_sync_converged(Time now);                    // Next: the checkpoint that completes it.
  Actions on_disconnected(Time now, const std::string& why);  // The connection; not yet the peer.
  Actions on_suspected(Time now, const std::string& why);     // The detector's.
  Actions on_alive(Time now);                                 // Likewise.
  Actions on_hold(Time now, Nanos at_most);  // The backup's: its silence is borne for so long.
  Actions on_captured(Time now, EpochId id, LastCheckpoint last);
  Actions on_capture_failed(Time now, EpochId id, const std::string& why);
  Actions on_ack(Time now, EpochId id);
  Actions on_output_waiting(Time now);
  Actions on_swap(Time now, const SwapAnswer& answer);
  Actions on_read(Time now, const ReadAnswer& answer);
  Actions on_guest_ended(Time now);
  Actions on_guest_lost(Time now,
                        const std::string& why);  // Its process died: nothing to run here.

  // --- the owner's wishes --------------------------------------------------------------------
  Status can_switch_over() const;
  Actions switch_over(Time now);
  Actions unprotect(Time now);
  // For another process to go on: one more epoch, after which the guest stays paused; Held when it
  // is acknowledged and released. Until let_go(), or until something else came first: not
  // holding().
  Status can_hold() const;
  Actions hold(Time now);
  Actions let_go(Time now);
  bool holding() const { return hold_wanted_; }
  bool bears_silence(Time now) const { return now < hold_until_; }  // The backup's.

 private:
  struct Attempt {
    OwnershipRecord from, to;
  };

  bool checkpointing() const;
  bool room() const;
  void observe(Time now);
  void maybe_checkpoint(Time now, Actions& actions);
  void take(Actions& actions, TakeCheckpoint order);
  void begin_joining(Actions& actions);
  void release(Actions& actions);
  EpochId as_captured(Epoch epoch) const;
  bool awaits_ack() const;
  bool ack_overdue(Time now) const;
  Nanos ack_limit() const;
  void ask_to_take_over(Actions& actions, Epoch through);
  void attempt(Actions& actions, PrimaryState next, OwnershipRecord to);
  OwnershipRecord successor(bool with_peer, bool ended) const;
  void remove_peer(Actions& actions, const std::string& why);
  void go_solo(Actions& actions, const std::string& why);
  void forget_peer();
  void fence(Actions& actions, const std::string& why);
  void definite(Time now, Actions& actions);
  void record_end(Actions& actions);
  void settle_final(Actions& actions);
  void run_on(Actions& actions);
  Time reconnect_by() const;

  Incarnation self_;
  OwnershipRecord record_;
  PrimaryOptions options_;
  PrimaryState state_ = PrimaryState::solo;

  std::optional<Incarnation> peer_;
  bool peer_connected_ = false;
  bool peer_gone_ = false;  // Suspected while a swap was out: act when it is answered.
  std::string gone_why_;

  EpochId older_;                  // The newest epoch ordered before the record last changed.
  Epoch first_;                    // Completes the image of the backup that is joining.
  Epoch issued_;                   // The newest number given to a checkpoint.
  Epoch captured_, acknowledged_;  // acknowledged_: under any generation.
  std::vector<Epoch> in_flight_;   // Captured, not acknowledged. Numbers of failed captures lack.
  EpochId released_, releasable_;  // releasable_: acknowledged under the record's generation.
  std::optional<Epoch> final_;     // The last epoch before a hand-over or the guest's end.
  bool capturing_ = false;         // A TakeCheckpoint is being done.
  bool join_next_ = false;         // When that is done: the checkpoint that completes the image.
  LastCheckpoint last_;
  bool output_waiting_ = false;

  std::optional<Attempt> attempt_;
  bool question_out_ = false;   // To the arbiter.
  bool answer_is_old_ = false;  // It was asked before this replica stood still.
  std::optional<Time> ask_at_;  // When to ask again.
  bool confirm_ = false;        // Stood still: ask before releasing.
  Time seen_;                   // The latest event.
  Time handed_over_at_, disconnected_at_;
  std::uint64_t pages_awaited_ = 0;  // Captured since then, about.
  Time progress_at_;                 // When an acknowledgement last came, or began to be awaited.

  bool guest_ended_ = false, guest_lost_ = false;
  bool unprotect_wanted_ = false, switch_wanted_ = false, hold_wanted_ = false, held_ = false;
  Time hold_until_;                          // The backup's.
  std::optional<std::string> silent_since_;  // Its hold began: why it was suspected.
};

}  // namespace libft::core
