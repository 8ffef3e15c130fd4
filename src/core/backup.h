// SPDX-License-Identifier: LGPL-2.1-or-later
// The Backup is the machine of the replica that waits: what it acknowledges, when it tries to take
// over, when it gives up. Events in, actions out: no I/O, no clock, no lock. Copyable.
//
//            welcome          image k complete        Joined
//   dialing ---------> syncing ---------------> holding -------> in_sync
//      ^                  | connection lost        |                | suspected, asked to take over
//      |<-----------------+                        +--------+-------+
//      |  StartOver: image and incarnation given up         v
//      |<------------- not entitled (removed) -------- claiming   (reads; acknowledges nothing)
//      |                                                    | the record lists this replica
//      |<------------- lost to the primary ----------- swapping   (unknown: the same swap again)
//                                                           | won
//   stood_down <--- the record says: ended                  v
//                                                        promoted
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/action.h"

namespace libft::core {

enum class BackupState {
  dialing,     // Holds nothing.
  syncing,     // Receives its first image.
  holding,     // Holds a complete image, but does not know that the record lists it.
  in_sync,     // The record lists it.
  claiming,    // Wants to take over and reads the record first. Acknowledges nothing.
  swapping,    // Its swap is out, or was never answered. Acknowledges nothing.
  promoted,    // Owner: a Primary goes on from here.
  stood_down,  // The guest ended.
};
std::string_view to_string(BackupState state);

struct BackupOptions {
  // The primary, should it live, gets this much time to win the arbiter first: a link blip then
  // costs protection, not a failover. What the detector gave already is not waited for again.
  Nanos head_start = Millis{25};
  Nanos ask_again = Millis{50};
  bool automatic = true;  // False: only fail_over() and SwitchOver make it claim.
  // After held(): how long the primary may leave it unheard. Longer than a primary waits for its
  // backup to reconnect, so that one that lives has taken this replica out by then.
  Nanos held_patience = Millis{3000};
};

class Backup {
 public:
  Backup(Incarnation self, BackupOptions options);

  // Goes on where another process stopped, with the complete image that it had.
  struct Image {
    Incarnation primary;
    Generation generation;
    EpochId newest;
    bool guest_paused = false;
  };
  static Backup held(Incarnation self, const Image& image, BackupOptions options, Time now);
  // What held() is to be given. REQUIRES: can_hold().
  Image image() const { return {primary_, generation_, newest_, guest_paused_}; }
  Status can_hold() const;

  BackupState state() const { return state_; }
  const Incarnation& self() const { return self_; }
  const Incarnation& primary() const { return primary_; }
  EpochId newest() const { return newest_; }  // Complete; generation as it was captured.
  Generation generation() const { return generation_; }
  // The primary is silent, and this replica has not begun to claim.
  bool suspects() const {
    return suspected_ && (state_ == BackupState::holding || state_ == BackupState::in_sync);
  }
  std::optional<Time> wake_at() const;
  // The primary said that it would be silent.
  bool bears_silence(Time now) const { return now < hold_until_; }
  // While it does not acknowledge, frames that arrive are left waiting, in order: an epoch that is
  // not acknowledged must not become the one that is promoted.
  bool acknowledges() const;

  Actions on_tick(Time now);
  // The connection stands. `generation` is the primary's; `resume`: the image held is the base.
  Actions on_welcome(Time now, const wire::Welcome& welcome, Generation generation);
  Actions on_disconnected(Time now);
  // Complete, verified and decoded into reserved memory.
  Actions on_epoch_complete(Time now, EpochId id, bool first, bool guest_ended, bool guest_paused);
  // It is executed before it is acknowledged, and a take-over goes on from it all the same: of the
  // epochs that are here, this is the newest that counts.
  void on_epoch_here(EpochId id, bool guest_ended, bool guest_paused);
  Actions on_joined(Time now, Generation generation);
  Actions on_switch_over(Time now, EpochId id);
  Actions on_suspected(Time now, const std::string& why, Nanos head_start_given);
  Actions on_alive(Time now);
  Actions on_hold(Time now, Nanos at_most);  // The primary's: its silence is borne for so long.
  Actions on_ended(Time now, const std::string& text);
  Actions on_swap(Time now, const SwapAnswer& answer);
  Actions on_read(Time now, const ReadAnswer& answer);

  Status can_fail_over() const;
  Actions fail_over(Time now);  // A person's wish: at once.

 private:
  struct Attempt {
    OwnershipRecord from, to;
  };

  void claim(Actions& actions, const std::string& why);
  void give_up(Actions& actions, const std::string& why);
  void stand_down(Actions& actions, const std::string& why);
  void won(Actions& actions, OwnershipRecord record);
  void ask(Actions& actions);
  void decide(Time now, Actions& actions, const OwnershipRecord& record);

  Incarnation self_;
  BackupOptions options_;
  BackupState state_ = BackupState::dialing;
  BackupState before_claim_ = BackupState::holding;
  Incarnation primary_;
  Generation generation_;
  EpochId newest_;
  EpochId newest_here_;  // Likewise, acknowledged or not; of it:
  bool guest_ended_ = false, guest_paused_ = false;
  bool image_complete_ = false;
  bool connected_ = false;
  bool forced_ = false;  // By a person, or asked by the primary.
  bool suspected_ = false;
  std::optional<Time> claim_at_;             // The head start's end.
  Time hold_until_;                          // The primary's, or until held() must have heard it.
  std::optional<std::string> silent_since_;  // Its hold began: why it is to be suspected.
  std::optional<Attempt> attempt_;
  bool question_out_ = false;
  std::optional<Time> ask_at_;
};

}  // namespace libft::core
