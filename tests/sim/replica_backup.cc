// SPDX-License-Identifier: LGPL-2.1-or-later
// The backup's half of the runner: dialing, assembling, taking over.
#include <fmt/format.h>

#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"
#include "wire/pages.h"

namespace libft::sim {
namespace {
// How long a host that took the connection may leave it without a word: a host that died then
// closes nothing. The session's is 15 s; the simulation's patience is a twentieth all through.
constexpr Nanos kWelcomePatience = Millis{750};
}  // namespace

void Replica::dial() {
  if (dialing_) return;
  dialing_ = true;
  host_.later(world_.random.between(Millis{10}, Millis{60}), [this] {
    dialing_ = false;
    if (!backup_ || connection_ || backup_->state() == core::BackupState::stood_down ||
        backup_->state() == core::BackupState::promoted)
      return;
    if (backup_->state() == core::BackupState::claiming ||
        backup_->state() == core::BackupState::swapping)
      return dial();  // Later, if it still waits for somebody then.
    do next_to_dial_ = (next_to_dial_ + 1) % kHosts;
    while (next_to_dial_ == host_.index());
    dialing_ = true;
    const ConnectionId dialed = world_.network.dial(host_.index(), next_to_dial_);
    dialed_ = dialed;
    // A connection that nobody answers is given up.
    host_.later(Millis{400}, [this, dialed] {
      if (!dialing_ || dialed_ != dialed || connection_) return;
      dialing_ = false;
      dial();
    });
  });
}

void Replica::send_hello() {
  wire::Hello hello;
  hello.guest = world_.guest.name();
  hello.backup = self_;
  if (backup_->state() != core::BackupState::dialing) {
    hello.newest_complete = backup_->newest();
    hello.image_of = backup_->primary();
  }
  send(hello, backup_->generation());
  host_.later(kWelcomePatience, [this, connection = *connection_] {
    if (connection_ == connection && !welcomed_) connection_lost("no welcome");
  });
}

void Replica::on_message_of_primary(const wire::Message& message, const wire::FrameHeader& header) {
  if (!backup_) return;
  if (const auto* welcome = std::get_if<wire::Welcome>(&message)) {
    if (welcomed_) return;
    if (late_ && strategy_of(welcome->features) != Strategy::replay) return cannot_be_late();
    welcomed_ = true;
    if (!welcome->resume && backup_->newest() == EpochId{}) assembler_->reset();
    if (!welcome->resume) {
      forget_votes();
      follower_.reset();
      delay_.reset();
      shelf_.reset();
      executing_.clear();
      strategy_ = strategy_of(welcome->features);
      if (strategy_ == Strategy::compare) begin_to_shadow();
    } else if (!world_.is(Mutant::change_unheard)) {
      become(strategy_of(welcome->features));
    }
    host_.watch(peer_, welcome->primary, core::Watched::primary);
    add(backup_->on_welcome(now(), *welcome, header.id.generation));
    if (welcome->resume && shelf_ && !follower_)
      send(wire::Followed{shelf_->image()}, backup_->generation());
    host_.post([this] { acknowledge_executed(); });
  } else if (!welcomed_) {
    drop_connection();  // Refused: somebody else, or later.
  } else if (const auto* joined = std::get_if<wire::Joined>(&message)) {
    add(backup_->on_joined(now(), joined->generation));
  } else if (const auto* hold = std::get_if<wire::Hold>(&message)) {
    on_hold(*hold);
  } else if (const auto* change = std::get_if<wire::Change>(&message)) {
    become(strategy_of(change->features));
  } else if (const auto* switch_over = std::get_if<wire::SwitchOver>(&message)) {
    switching_ = true;
    add(backup_->on_switch_over(now(), switch_over->id));
  } else if (const auto* ended = std::get_if<wire::Ended>(&message)) {
    add(backup_->on_ended(now(), ended->text));
  }
}

void Replica::on_bulk(const wire::Frame& frame) {
  // Mutant: acknowledges what it was only told of.
  if (world_.is(Mutant::ack_before_decoding) && frame.header.type == wire::FrameType::epoch_begin)
    send(wire::Ack{{backup_->generation(), frame.header.id.epoch}}, backup_->generation());
  if (frame.header.type == wire::FrameType::epoch_log) return on_log(frame);
  if (frame.header.type == wire::FrameType::frames_in) {
    const Status taken = shadow_ ? shadow_->follower.on_frames_in(frame)
                                 : Status(Code::corrupt, "frames for a follower, and none is here");
    return taken ? void() : damaged(taken);
  }
  if (world_.is(Mutant::shelf_emptied_at_begin) && shelf_ && shelf_->covers(frame.header.id))
    shelf_->rebase(frame.header.id);
  const auto complete = assembler_->on_frame(frame);
  if (!complete) return damaged(complete.error());
  if (auto probe = assembler_->take_probe_state()) {
    const Status loadable = guest_->probe_state(*probe);
    send(wire::ProbeAnswer{loadable.ok(), loadable.message()}, backup_->generation());
  }
  if (*complete && (**complete).rebase) return on_image((**complete).id);
  if (*complete) on_complete(**complete);
}

void Replica::on_complete(const checkpoint::CompleteEpoch& complete) {
  world_.oracle.on_complete(self_, complete.id);
  unapplied_ = complete;
  if (!backup_->acknowledges())  // Only a mutant reads on while it wants to take over.
    return add({core::SendMessage{wire::Ack{{backup_->generation(), complete.id.epoch}},
                                  backup_->generation()},
                core::ApplyEpoch{complete.id}});
  const bool ended = complete.guest_ended && !world_.is(Mutant::resurrect_ended);
  const bool paused = complete.guest_paused && !world_.is(Mutant::resume_paused);
  add(backup_->on_epoch_complete(now(), complete.id, complete.first, ended, paused));
}

void Replica::apply(EpochId id) {
  if (log_ && log_->id == id) {
    if (shelf_) {
      (void)shelf_->keep(*std::exchange(log_, std::nullopt));
      return;
    }
    if (delay_) return keep_until_due(*std::exchange(log_, std::nullopt));
    to_follow_.push_back(*std::exchange(log_, std::nullopt));
    return follow_later();
  }
  const bool there = unapplied_ && unapplied_->id == id;
  if ((follower_ || shelf_) && !there)
    return;  // lockstep: it was executed before it was acknowledged.
  if (shadow_ && there) return apply_shadowed(*std::exchange(unapplied_, std::nullopt));
  unapplied_.reset();
  if (world_.is(Mutant::skip_apply_before_promotion) && world_.random.chance(20)) return;
  if (there && world_.is(Mutant::held_with_old_state)) {
    const auto state = assembler_->state();
    old_state_.assign(state.begin(), state.end());
  }
  if (there) assembler_->apply();
  world_.oracle.on_applied(self_, id, SimGuest::hash(guest_->info(), assembler_->state()));
  forget_votes();
  follower_.reset();
  delay_.reset();
  shelf_.reset();
  to_follow_.clear();
  if (strategy_ != Strategy::checkpoint && strategy_ != Strategy::compare) begin_to_follow(id);
}

// Gives up the image and the incarnation. The process goes on.
void Replica::start_over() {
  drop_connection();
  host_.unwatch();
  todo_.clear();
  ++question_;
  world_.oracle.on_death(self_);
  if (!world_.is(Mutant::reuse_incarnation)) self_ = world_.new_incarnation(host_.index());
  make_guest();
  welcomed_ = false;
  unapplied_.reset();
  backup_before_swap_.reset();
  begin_as_backup();
}

void Replica::promote(const core::Promote& order) {
  // What was executed here and not acknowledged is part of the guest's life now.
  const bool forgets = executing_.empty() || world_.is(Mutant::promote_forgets_executed);
  EpochId newest = forgets ? backup_->newest() : executing_.back().id;
  if (connection_) world_.network.close(*connection_, host_.index());
  connection_.reset();
  reader_.reset();
  host_.unwatch();
  if (shelf_) take_from_shelf();
  if (delay_) take_delayed();
  if (follower_) {
    while (!world_.is(Mutant::promote_unexecuted) && follow_one()) {
    }
    // It lost a bit, and the primary: nothing is left of the guest.
    if (!to_follow_.empty() && !world_.is(Mutant::promote_apart) &&
        (flipped_ || world_.oracle.is_spoilt(to_follow_.front().id)))
      return host_.later(Nanos{0}, [this] { host_.crash(true); });
    to_follow_.clear();
    executing_.clear();
    if (world_.is(Mutant::request_not_reissued)) guest_->forget_request();
    follower_->go_live();
  }
  const bool follows = shadow_ && load_shadowed();
  const Status loaded = follower_ || shadow_ ? Status() : guest_->load_state(assembler_->state());
  forget_votes();
  follower_.reset();
  if (!loaded) return world_.report(rule::kPrefix, loaded.to_string());
  owner_resumed_ = !order.stay_paused;
  if (order.stay_paused) guest_->owner_pauses();
  (void)guest_->activate();
  world_.trace.add(host_.name(), "is promoted", order.record.generation.value, newest.epoch.value);
  world_.oracle.on_promote(self_, order.record, newest, *guest_, !order.stay_paused, follows);
  if (switching_)
    ++world_.counters.switchovers;
  else
    ++world_.counters.failovers;
  switching_ = false;
  backup_.reset();
  backup_before_swap_.reset();
  assembler_.reset();
  ++question_;
  was_unprotected_ = true;
  become_primary(order.record, newest.epoch.next());
  open_gate();
  take_over_shadowed(newest);
  // It shut down just before the epoch that is continued here: its driver says so at once.
  if (guest_->ended())
    host_.post([this] {
      if (primary_) add(primary_->on_guest_ended(now()));
    });
}

}  // namespace libft::sim
