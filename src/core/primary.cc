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

Primary Primary::held(Incarnation self, OwnershipRecord record, Epoch newest,
                      PrimaryOptions options, Time now) {
  Primary primary(std::move(self), std::move(record), newest.next(), options, now);
  for (const Incarnation& one : primary.record_.in_sync)
    if (one != primary.self_) primary.peer_ = one;
  primary.state_ = PrimaryState::protecting;
  primary.disconnected_at_ = now;
  primary.confirm_ = true;
  primary.ask_at_ = now;
  primary.output_waiting_ = true;  // Nobody told this process of what the guest has sent.
  return primary;
}

// --- what is known ------------------------------------------------------------------------------

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
  if (state_ == PrimaryState::protecting && !peer_connected_) at = std::min(at, reconnect_by());
  if (silent_since_) at = std::min(at, hold_until_);
  if (state_ == PrimaryState::syncing) at = std::min(at, progress_at_ + options_.sync_patience);
  if (awaits_ack()) at = std::min(at, progress_at_ + ack_limit());
  if (checkpointing() && room())
    at = std::min(at, next_checkpoint(options_.interval, last_, output_waiting_));
  return at;
}

Time Primary::reconnect_by() const {
  return std::max(disconnected_at_ + options_.reconnect_patience, hold_until_);
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
  if (state_ == PrimaryState::protecting && (switch_wanted_ || hold_wanted_ || guest_ended_)) {
    order.stay_paused = true;
    order.guest_ended = guest_ended_;
    return take(actions, order);
  }
  if (now >= next_checkpoint(options_.interval, last_, output_waiting_)) take(actions, order);
}

// A checkpoint that was ordered for a backup that left may still be under way: the guest was asked
// to stand still, and answers when it likes.
void Primary::begin_joining(Actions& actions) {
  join_next_ = capturing_;
  if (capturing_) return;
  first_ = issued_.next();
  take(actions, {.id = {record_.generation, issued_.next()}, .begin_hold = true});
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
  hold_wanted_ = held_ = false;
  hold_until_ = {};
  silent_since_.reset();
  acknowledged_ = captured_;
  in_flight_.clear();
  join_next_ = false;
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
  if (hold_wanted_ && !std::exchange(held_, true)) actions.push_back(Held{});
  if (!switch_wanted_) return;
  state_ = PrimaryState::handing_over;
  handed_over_at_ = seen_;
  ask_at_ = seen_ + options_.ask_again;
  actions.push_back(SendMessage{wire::SwitchOver{released_}, record_.generation});
}

// The guest was left paused for something that is not wanted any more.
void Primary::run_on(Actions& actions) {
  if (!final_ || capturing_ || state_ != PrimaryState::protecting) return;
  if (switch_wanted_ || hold_wanted_ || guest_ended_) return;
  final_.reset();
  if (!guest_lost_) actions.push_back(ResumeGuest{});
}

// Our own swap landed.
void Primary::definite(Time now, Actions& actions) {
  older_ = {record_.generation, capturing_ ? issued_ : captured_};
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

}  // namespace libft::core
