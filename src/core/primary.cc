// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/primary.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace libft::core {

std::string_view to_string(PrimaryState state) {
  switch (state) {
    case PrimaryState::solo: return "solo";
    case PrimaryState::syncing: return "syncing";
    case PrimaryState::joining: return "joining";
    case PrimaryState::adding: return "adding";
    case PrimaryState::protecting: return "protecting";
    case PrimaryState::removing: return "removing";
    case PrimaryState::handing_over: return "handing_over";
    case PrimaryState::recording_end: return "recording_end";
    case PrimaryState::ended: return "ended";
    case PrimaryState::fenced: return "fenced";
  }
  return "unknown";
}

Primary::Primary(Incarnation self, OwnershipRecord record, Epoch next, PrimaryOptions options,
                 Time now)
    : self_(std::move(self)),
      record_(std::move(record)),
      options_(options),
      issued_(Epoch{next.value - 1}),
      captured_(issued_),
      acknowledged_(captured_),
      released_{record_.generation, captured_},
      releasable_(released_),
      seen_(now) {
  last_.resumed_at = now;
}

// --- what is known ------------------------------------------------------------------------------

std::uint32_t Primary::inflight() const {
  return static_cast<std::uint32_t>(captured_.value - acknowledged_.value);
}

bool Primary::checkpointing() const {
  return !final_ && (state_ == PrimaryState::joining || state_ == PrimaryState::adding ||
                     state_ == PrimaryState::protecting);
}

// Whether another epoch may be captured: never more unacknowledged than allowed, never more sealed
// than the gate can tell apart, and none for a peer that is not there.
bool Primary::room() const {
  const auto held = captured_.value - released_.epoch.value;
  return !capturing_ && peer_connected_ && inflight() < options_.inflight_max &&
         held < options_.epochs_held_max;
}

Time Primary::wake_at() const {
  Time at = seen_ + (peer_ ? options_.stall_limit / 2 : Nanos{options_.interval.idle});
  if (ask_at_) at = std::min(at, *ask_at_);
  if (state_ == PrimaryState::handing_over && !guest_lost_)
    at = std::min(at, handed_over_at_ + options_.handover_patience);
  if (state_ == PrimaryState::protecting && !peer_connected_)
    at = std::min(at, disconnected_at_ + options_.reconnect_patience);
  if (awaits_ack()) at = std::min(at, progress_at_ + ack_limit());
  if (checkpointing() && room())
    at = std::min(at, next_checkpoint(options_.interval, last_, output_waiting_));
  return at;
}

Primary::Welcome Primary::consider(const wire::Hello& hello) const {
  if (guest_ended_ || state_ == PrimaryState::ended) return {false, false, "the guest has ended"};
  if (state_ == PrimaryState::fenced)
    return {false, false, "this replica no longer owns the guest"};
  if (state_ == PrimaryState::solo) {
    if (guest_lost_)
      return {false, false, "the guest's process died here: there is nothing to copy"};
    return {true, false, {}};
  }
  const bool same = peer_ && *peer_ == hello.backup;
  if (!same)
    return {false, false, fmt::format("busy: {} is the backup of this guest", to_string(*peer_))};
  if (peer_connected_) return {false, false, "busy: this backup is connected already"};
  const bool handing_over = state_ == PrimaryState::handing_over && guest_lost_;
  if (state_ != PrimaryState::adding && state_ != PrimaryState::protecting && !handing_over)
    return {false, false, fmt::format("busy: {}", to_string(state_))};
  // Its image must be of our stream, and no older than what the world has seen.
  if (hello.image_of != self_ || hello.newest_complete.epoch < released_.epoch ||
      hello.newest_complete.epoch > captured_)
    return {false, false, "your image does not continue this guest's: start over"};
  return {true, true, {}};
}

OwnershipRecord Primary::successor(bool with_peer, bool ended) const {
  OwnershipRecord to;
  to.generation = record_.generation.next();
  to.owner = self_;
  to.in_sync = {self_};
  if (with_peer && peer_) to.in_sync.push_back(*peer_);
  to.ended = ended;
  return to;
}

// --- parts of transitions -----------------------------------------------------------------------

// A replica that stood still may have been replaced meanwhile: it asks before it releases more.
void Primary::observe(Time now) {
  if (peer_ && now - seen_ > options_.stall_limit) {
    answer_is_old_ = question_out_;
    if (!attempt_ && !confirm_) {
      confirm_ = true;
      if (!ask_at_) ask_at_ = now;
    }
  }
  seen_ = now;
}

void Primary::take(Actions& actions, TakeCheckpoint order) {
  capturing_ = true;
  output_waiting_ = false;
  issued_ = order.id.epoch;  // Also when it fails: the gate may have sealed under this number.
  if (order.stay_paused) final_ = order.id.epoch;
  actions.push_back(order);
}

void Primary::maybe_checkpoint(Time now, Actions& actions) {
  if (!checkpointing() || !room()) return;
  TakeCheckpoint order{.id = {record_.generation, issued_.next()}};
  if (state_ == PrimaryState::protecting && (switch_wanted_ || guest_ended_)) {
    order.stay_paused = true;
    order.guest_ended = guest_ended_;
    return take(actions, order);
  }
  if (now >= next_checkpoint(options_.interval, last_, output_waiting_)) take(actions, order);
}

void Primary::release(Actions& actions) {
  if (confirm_ || attempt_ || releasable_ <= released_) return;
  released_ = releasable_;
  actions.push_back(ReleaseOutput{as_captured(released_.epoch)});
}

// The gate knows epochs by the names under which they were sealed. An epoch sealed before the
// record changed keeps its older generation, and gates order by generation first: "through 4.40"
// would let out 3.41, which nobody has acknowledged.
EpochId Primary::as_captured(Epoch epoch) const {
  return {epoch <= older_.epoch ? older_.generation : record_.generation, epoch};
}

// Something was captured that the backup has not acknowledged under the record's generation.
bool Primary::awaits_ack() const {
  if (!peer_connected_) return false;
  if (state_ == PrimaryState::protecting) return captured_ > releasable_.epoch;
  return (state_ == PrimaryState::joining || state_ == PrimaryState::adding) && inflight() > 0;
}

bool Primary::ack_overdue(Time now) const {
  return awaits_ack() && now - progress_at_ >= ack_limit();
}

// A large epoch on a slow link is no silence: what is on its way gets the time that it takes there.
Nanos Primary::ack_limit() const {
  return options_.ack_patience +
         options_.ack_patience_a_page * static_cast<std::int64_t>(pages_awaited_);
}

void Primary::ask_to_take_over(Actions& actions, Epoch through) {
  actions.push_back(
      SendMessage{wire::SwitchOver{{record_.generation, through}}, record_.generation});
}

// From here on nothing is released, and nothing else attempted, until a definite answer.
void Primary::attempt(Actions& actions, PrimaryState next, OwnershipRecord to) {
  state_ = next;
  attempt_ = Attempt{record_, std::move(to)};
  if (question_out_) {  // One question at a time: this one follows the answer.
    ask_at_ = seen_;
    return;
  }
  question_out_ = true;
  ask_at_.reset();
  actions.push_back(SwapRecord{attempt_->from, attempt_->to});
}

void Primary::remove_peer(Actions& actions, const std::string& why) {
  actions.push_back(Tell{"removing_backup", why});
  attempt(actions, PrimaryState::removing, successor(false, false));
}

void Primary::forget_peer() {
  peer_.reset();
  peer_connected_ = false;
  peer_gone_ = false;
  unprotect_wanted_ = false;
  switch_wanted_ = false;
  acknowledged_ = captured_;
  released_ = {record_.generation, captured_};  // The gate is open: everything is out.
  releasable_ = released_;
  confirm_ = false;
  if (!attempt_) ask_at_.reset();
}

// The record lists nobody else: output may flow.
void Primary::go_solo(Actions& actions, const std::string& why) {
  const bool paused = final_.has_value();
  state_ = PrimaryState::solo;
  final_.reset();
  actions.push_back(DropPeer{why});
  forget_peer();
  actions.push_back(OpenOutput{});
  if (paused && !guest_ended_ && !guest_lost_) actions.push_back(ResumeGuest{});
  actions.push_back(Tell{"unprotected", why});
  if (guest_ended_) record_end(actions);
}

void Primary::fence(Actions& actions, const std::string& why) {
  state_ = PrimaryState::fenced;
  attempt_.reset();
  ask_at_.reset();
  confirm_ = false;
  peer_connected_ = false;
  actions.push_back(DiscardOutput{});
  actions.push_back(StopGuest{why});
  actions.push_back(DropPeer{why});
  actions.push_back(Tell{"fenced", why});
}

void Primary::record_end(Actions& actions) {
  attempt(actions, PrimaryState::recording_end, successor(false, true));
}

// The last epoch is acknowledged and out: now the guest's end is recorded, or the backup asked.
void Primary::settle_final(Actions& actions) {
  if (state_ != PrimaryState::protecting || !final_ || released_.epoch < *final_) return;
  if (released_.generation != record_.generation) return;
  if (guest_ended_) return record_end(actions);
  if (!switch_wanted_) return;
  state_ = PrimaryState::handing_over;
  handed_over_at_ = seen_;
  ask_at_ = seen_ + options_.ask_again;
  actions.push_back(SendMessage{wire::SwitchOver{released_}, record_.generation});
}

// Our own swap landed.
void Primary::definite(Time now, Actions& actions) {
  older_ = {record_.generation, capturing_ ? captured_.next() : captured_};
  record_ = attempt_->to;
  attempt_.reset();
  ask_at_.reset();
  confirm_ = false;
  switch (state_) {
    case PrimaryState::adding:
      state_ = PrimaryState::protecting;
      progress_at_ = now;
      if (peer_gone_) return remove_peer(actions, gone_why_);
      if (unprotect_wanted_) return remove_peer(actions, "unprotect");
      if (peer_connected_)
        actions.push_back(SendMessage{wire::Joined{record_.generation}, record_.generation});
      actions.push_back(Tell{"protected", to_string(*peer_)});
      if (guest_lost_ && guest_ended_) {
        actions.push_back(DiscardOutput{});
        return record_end(actions);
      }
      if (guest_lost_) {  // The backup's image is all that is left.
        state_ = PrimaryState::handing_over;
        handed_over_at_ = now;
        ask_at_ = now + options_.ask_again;
        actions.push_back(DiscardOutput{});
        return ask_to_take_over(actions, acknowledged_);
      }
      return maybe_checkpoint(now, actions);
    case PrimaryState::removing:
      return go_solo(actions, "runs alone: the record lists no backup any more");
    case PrimaryState::recording_end:
      state_ = PrimaryState::ended;
      if (peer_connected_)
        actions.push_back(
            SendMessage{wire::Ended{record_.generation, "the guest ended"}, record_.generation});
      actions.push_back(OpenOutput{});
      actions.push_back(StopGuest{"the guest ended"});
      actions.push_back(DropPeer{"the guest ended"});
      actions.push_back(Tell{"ended", "recorded; no replica runs this guest again"});
      return;
    default: return;
  }
}

// --- events
// ---------------------------------------------------------------------------------------

Actions Primary::on_tick(Time now) {
  Actions actions;
  observe(now);
  if (state_ == PrimaryState::handing_over && !guest_lost_ && !attempt_ &&
      now - handed_over_at_ >= options_.handover_patience) {
    remove_peer(actions, "the backup did not take over in time");
    return actions;
  }
  if (state_ == PrimaryState::protecting && !peer_connected_ &&
      now - disconnected_at_ >= options_.reconnect_patience) {
    // Its heart beats, but it does not come back: output cannot wait for ever.
    remove_peer(actions, "the backup did not reconnect in time");
    return actions;
  }
  const bool unheard = state_ == PrimaryState::handing_over && guest_lost_ && peer_connected_ &&
                       now - handed_over_at_ >= options_.handover_patience;
  if (ack_overdue(now) || unheard) {
    const std::string why =
        unheard ? "the backup does not take over" : "the backup acknowledges nothing";
    handed_over_at_ = now;
    actions.push_back(DropPeer{why});
    for (auto& action : on_disconnected(now, why)) actions.push_back(std::move(action));
    return actions;
  }
  if (ask_at_ && now >= *ask_at_ && !question_out_) {
    ask_at_.reset();
    question_out_ = true;
    answer_is_old_ = false;
    if (attempt_) {
      actions.push_back(SwapRecord{attempt_->from, attempt_->to});
    } else {
      actions.push_back(ReadRecord{});
    }
  }
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::on_backup(Time now, const wire::Hello& hello) {
  Actions actions;
  observe(now);
  if (state_ == PrimaryState::solo) {
    peer_ = hello.backup;
    peer_connected_ = true;
    state_ = PrimaryState::syncing;
    actions.push_back(Tell{"syncing", to_string(*peer_)});
    actions.push_back(BeginSync{});
    return actions;
  }
  // The same backup is back with its image: what it lacks goes with the next epoch.
  peer_connected_ = true;
  progress_at_ = now;
  if (state_ == PrimaryState::handing_over) {  // It may never have heard that it is to take over.
    ask_to_take_over(actions, hello.newest_complete.epoch);
    return actions;
  }
  acknowledged_ = captured_;  // Nothing is in flight on the new connection.
  output_waiting_ = output_waiting_ || released_.epoch < captured_;
  actions.push_back(Tell{"reconnected", to_string(hello.newest_complete)});
  if (captured_.value - hello.newest_complete.epoch.value >= options_.epochs_held_max) {
    // The gate is full of epochs that this backup will never hold under their own numbers, and the
    // one that would cover them cannot be sealed: the guest would wait for ever.
    gone_why_ = "the gate cannot hold the epoch that would replace those lost with the connection";
    if (state_ == PrimaryState::protecting) {
      remove_peer(actions, gone_why_);
      return actions;
    }
    peer_gone_ = true;
  }
  if (state_ == PrimaryState::protecting) {
    actions.push_back(SendMessage{wire::Joined{record_.generation}, record_.generation});
    if (final_ && hello.newest_complete.epoch < *final_) {  // Capture the last epoch once more.
      final_.reset();
      if (!guest_ended_) actions.push_back(ResumeGuest{});
    }
  }
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::on_sync_converged(Time now) {
  Actions actions;
  observe(now);
  if (state_ != PrimaryState::syncing) return actions;
  state_ = PrimaryState::joining;
  first_ = issued_.next();
  take(actions, {.id = {record_.generation, issued_.next()}, .begin_hold = true});
  return actions;
}

Actions Primary::on_disconnected(Time now, const std::string& why) {
  Actions actions;
  observe(now);
  if (!peer_connected_) return actions;
  peer_connected_ = false;
  disconnected_at_ = now;
  if (state_ == PrimaryState::syncing || state_ == PrimaryState::joining) {
    go_solo(actions, why);
  } else if (peer_) {
    actions.push_back(Tell{"disconnected", why});
  }
  return actions;
}

Actions Primary::on_suspected(Time now, const std::string& why) {
  Actions actions;
  observe(now);
  switch (state_) {
    case PrimaryState::syncing:
    case PrimaryState::joining: go_solo(actions, why); break;
    case PrimaryState::adding:
      peer_gone_ = true;
      gone_why_ = why;
      break;
    case PrimaryState::protecting: remove_peer(actions, why); break;
    case PrimaryState::handing_over:
      if (!guest_lost_) remove_peer(actions, why);
      break;
    default: break;
  }
  return actions;
}

Actions Primary::on_captured(Time now, EpochId id, LastCheckpoint last) {
  Actions actions;
  observe(now);
  capturing_ = false;
  if (!awaits_ack()) {
    progress_at_ = now;
    pages_awaited_ = 0;
  }
  pages_awaited_ += last.pages;
  last_ = last;
  captured_ = id.epoch;
  return actions;
}

Actions Primary::on_capture_failed(Time now, EpochId id, const std::string& why) {
  Actions actions;
  observe(now);
  capturing_ = false;
  final_.reset();
  last_.resumed_at = now;  // Tried again after an interval.
  actions.push_back(Tell{"checkpoint_failed", fmt::format("epoch {}: {}", to_string(id), why)});
  if (state_ == PrimaryState::joining && captured_ < first_) {
    go_solo(actions, why);
  } else if (guest_ended_ && state_ == PrimaryState::protecting) {
    // Its last output cannot be covered by an epoch any more. Once the record says that the guest
    // ended nobody can contradict that output, and it is let out then.
    record_end(actions);
  } else if (std::exchange(switch_wanted_, false)) {
    actions.push_back(Tell{"switch_over_failed", why});
  }
  return actions;
}

Actions Primary::on_ack(Time now, EpochId id) {
  Actions actions;
  observe(now);
  if (!peer_connected_) return actions;
  if (id.epoch > captured_ || id.generation > record_.generation) {
    actions.push_back(
        DropPeer{fmt::format("acknowledged epoch {}, which was never sent", to_string(id))});
    for (auto& action : on_disconnected(now, "protocol violation")) actions.push_back(action);
    return actions;
  }
  if (id.epoch > acknowledged_ || id > releasable_) {
    progress_at_ = now;
    pages_awaited_ = last_.pages;  // The newest is on its way; what was before it has arrived.
  }
  acknowledged_ = std::max(acknowledged_, id.epoch);
  if (id.generation != record_.generation) return actions;  // Covers nothing under this one.
  if (state_ == PrimaryState::joining && id.epoch >= first_) {
    attempt(actions, PrimaryState::adding, successor(true, false));
  } else if (state_ == PrimaryState::protecting) {
    releasable_ = std::max(releasable_, EpochId{record_.generation, id.epoch});
    release(actions);
    settle_final(actions);
  }
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::on_output_waiting(Time now) {
  Actions actions;
  observe(now);
  output_waiting_ = true;
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::on_swap(Time now, const SwapAnswer& answer) {
  Actions actions;
  observe(now);
  question_out_ = false;
  if (!attempt_) return actions;
  const bool landed = answer.outcome == SwapOutcome::won ||
                      (answer.outcome == SwapOutcome::lost && answer.record == attempt_->to);
  if (landed) {
    definite(now, actions);
  } else if (answer.outcome == SwapOutcome::lost) {
    fence(actions, fmt::format("the arbiter's record is {}", to_string(answer.record)));
  } else {
    ask_at_ = now + options_.ask_again;
    actions.push_back(Tell{"arbiter_unknown", answer.detail});
  }
  return actions;
}

Actions Primary::on_read(Time now, const ReadAnswer& answer) {
  Actions actions;
  observe(now);
  question_out_ = false;
  const bool found = answer.outcome == ReadAnswer::Outcome::found;
  if (state_ == PrimaryState::fenced || state_ == PrimaryState::ended) return actions;
  if (!found) {
    ask_at_ = now + options_.ask_again;
    actions.push_back(Tell{"arbiter_unknown", answer.detail});
    return actions;
  }
  if (attempt_) {  // Decided on meanwhile; a read alone settles it only when the record has moved.
    if (answer.record == attempt_->to) {
      definite(now, actions);
    } else if (answer.record != attempt_->from) {
      fence(actions, fmt::format("the arbiter's record is {}", to_string(answer.record)));
    } else {
      question_out_ = true;
      ask_at_.reset();
      actions.push_back(SwapRecord{attempt_->from, attempt_->to});
    }
    return actions;
  }
  if (answer.record != record_) {
    const bool planned = state_ == PrimaryState::handing_over;
    fence(actions, planned ? fmt::format("switched over to {}", to_string(answer.record.owner))
                           : fmt::format("the arbiter's record is {}", to_string(answer.record)));
    return actions;
  }
  if (std::exchange(answer_is_old_, false) && confirm_) {  // True before the stall: ask again.
    ask_at_ = now;
    return actions;
  }
  confirm_ = false;
  if (state_ == PrimaryState::handing_over) {
    ask_at_ = now + options_.ask_again;
    return actions;
  }
  release(actions);
  settle_final(actions);
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::on_guest_ended(Time now) {
  Actions actions;
  observe(now);
  if (guest_ended_ || state_ == PrimaryState::fenced) return actions;
  guest_ended_ = true;
  actions.push_back(Tell{"guest_ended", {}});
  switch (state_) {
    case PrimaryState::solo: record_end(actions); break;
    case PrimaryState::syncing:
    case PrimaryState::joining: go_solo(actions, "the guest ended"); break;
    case PrimaryState::protecting: maybe_checkpoint(now, actions); break;
    default: break;  // When the swap that is out is answered.
  }
  return actions;
}

Actions Primary::on_guest_lost(Time now, const std::string& why) {
  Actions actions;
  observe(now);
  if (guest_lost_ || state_ == PrimaryState::fenced || state_ == PrimaryState::ended)
    return actions;
  guest_lost_ = true;
  actions.push_back(Tell{"guest_lost", why});
  if (state_ == PrimaryState::protecting && guest_ended_) {
    // It ended on purpose and its last epoch cannot be captured any more: what it sent in it is
    // lost, as on any network; that nobody runs it again is not.
    actions.push_back(DiscardOutput{});
    record_end(actions);
  } else if (state_ == PrimaryState::protecting) {
    // Nothing can run here any more; what was not acknowledged is gone with the guest.
    state_ = PrimaryState::handing_over;
    handed_over_at_ = now;
    ask_at_ = now + options_.ask_again;
    actions.push_back(DiscardOutput{});
    ask_to_take_over(actions, acknowledged_);
  } else if (state_ == PrimaryState::syncing || state_ == PrimaryState::joining) {
    go_solo(actions, why);
  }
  return actions;
}

Status Primary::can_switch_over() const {
  if (is_protected() && !final_) return {};
  return Status(Code::refused,
                fmt::format("not protected now ({}): wait until `ftctl status` says protected",
                            to_string(state_)));
}

Actions Primary::switch_over(Time now) {
  Actions actions;
  observe(now);
  if (!can_switch_over()) return actions;
  switch_wanted_ = true;
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::unprotect(Time now) {
  Actions actions;
  observe(now);
  switch (state_) {
    case PrimaryState::syncing:
    case PrimaryState::joining: go_solo(actions, "unprotect"); break;
    case PrimaryState::adding: unprotect_wanted_ = true; break;
    case PrimaryState::protecting: remove_peer(actions, "unprotect"); break;
    default: break;
  }
  return actions;
}

}  // namespace libft::core
