// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/backup.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace libft::core {

std::string_view to_string(BackupState state) {
  switch (state) {
    case BackupState::dialing: return "dialing";
    case BackupState::syncing: return "syncing";
    case BackupState::holding: return "holding";
    case BackupState::in_sync: return "in_sync";
    case BackupState::claiming: return "claiming";
    case BackupState::swapping: return "swapping";
    case BackupState::promoted: return "promoted";
    case BackupState::stood_down: return "stood_down";
  }
  return "unknown";
}

Backup::Backup(Incarnation self, BackupOptions options)
    : self_(std::move(self)), options_(options) {}

Backup Backup::held(Incarnation self, const Image& image, BackupOptions options, Time now) {
  Backup backup(std::move(self), options);
  backup.state_ = BackupState::in_sync;
  backup.primary_ = image.primary;
  backup.generation_ = image.generation;
  backup.newest_ = image.newest;
  backup.guest_paused_ = image.guest_paused;
  backup.image_complete_ = true;
  backup.hold_until_ = now + options.held_patience;
  backup.silent_since_ = "nobody was heard since this process began";
  return backup;
}

Status Backup::can_hold() const {
  if (state_ == BackupState::in_sync && connected_ && !suspected_ && !guest_ended_) return {};
  return Status(Code::refused,
                fmt::format("not in sync with a primary that is heard ({})", to_string(state_)));
}

std::optional<Time> Backup::wake_at() const {
  std::optional<Time> at = claim_at_ && ask_at_ ? std::min(*claim_at_, *ask_at_)
                           : claim_at_          ? claim_at_
                                                : ask_at_;
  if (silent_since_) at = std::min(at.value_or(hold_until_), hold_until_);
  return at;
}

// A replica that wants to promote first stops acknowledging; that is half of "no clock needed".
bool Backup::acknowledges() const {
  return state_ == BackupState::syncing || state_ == BackupState::holding ||
         state_ == BackupState::in_sync;
}

// --- parts of transitions -----------------------------------------------------------------------

void Backup::ask(Actions& actions) {
  ask_at_.reset();
  if (question_out_) return;
  question_out_ = true;
  if (attempt_) {
    actions.push_back(SwapRecord{attempt_->from, attempt_->to});
  } else {
    actions.push_back(ReadRecord{});
  }
}

void Backup::claim(Actions& actions, const std::string& why) {
  claim_at_.reset();
  if (state_ != BackupState::holding && state_ != BackupState::in_sync) return;
  before_claim_ = state_;
  state_ = BackupState::claiming;
  actions.push_back(Tell{"claiming", why});
  ask(actions);
}

void Backup::give_up(Actions& actions, const std::string& why) {
  silent_since_.reset();
  attempt_.reset();
  ask_at_.reset();
  claim_at_.reset();
  forced_ = false;
  image_complete_ = false;
  connected_ = false;
  state_ = BackupState::dialing;
  actions.push_back(StartOver{why});
}

void Backup::stand_down(Actions& actions, const std::string& why) {
  attempt_.reset();
  ask_at_.reset();
  claim_at_.reset();
  state_ = BackupState::stood_down;
  actions.push_back(StandDown{why});
}

void Backup::won(Actions& actions, OwnershipRecord record) {
  attempt_.reset();
  ask_at_.reset();
  generation_ = record.generation;
  if (record.ended) return stand_down(actions, "the guest had ended; the record says so now");
  state_ = BackupState::promoted;
  actions.push_back(Promote{record, primary_, guest_paused_});
}

// What a definite record means to a replica that has not attempted a swap on it yet.
void Backup::decide(Time now, Actions& actions, const OwnershipRecord& record) {
  if (record.ended) return stand_down(actions, "the guest ended");
  if (record.owner == self_) return won(actions, record);
  if (record.lists(self_)) {
    OwnershipRecord to{record.generation.next(), self_, {self_}, guest_ended_};
    attempt_ = Attempt{record, to};
    state_ = BackupState::swapping;
    return ask(actions);
  }
  if (record.generation > generation_)
    return give_up(actions,
                   fmt::format("the record no longer lists this replica: {}", to_string(record)));
  // The primary's swap that adds us has not landed, and may yet: the image is kept.
  state_ = before_claim_;
  forced_ = false;
  actions.push_back(Tell{"not_entitled", "the record does not list this replica yet"});
  // A dead host closes no connections: what counts is that nobody is heard.
  if (suspected_) claim_at_ = now + options_.ask_again;
}

// --- events
// ---------------------------------------------------------------------------------------

Actions Backup::on_tick(Time now) {
  Actions actions;
  if (silent_since_ && now >= hold_until_)
    actions = on_suspected(now, *std::exchange(silent_since_, std::nullopt), Nanos{0});
  if (claim_at_ && now >= *claim_at_) claim(actions, "the primary is silent");
  if (ask_at_ && now >= *ask_at_) ask(actions);
  return actions;
}

Actions Backup::on_welcome(Time, const wire::Welcome& welcome, Generation generation) {
  Actions actions;
  if (state_ == BackupState::claiming || state_ == BackupState::swapping ||
      state_ == BackupState::promoted || state_ == BackupState::stood_down)
    return actions;  // The connection is of no use to a replica that is taking over.
  connected_ = true;
  suspected_ = false;
  claim_at_.reset();
  hold_until_ = {};
  silent_since_.reset();
  primary_ = welcome.primary;
  if (!welcome.resume) {
    if (image_complete_) {
      give_up(actions, "the primary does not continue from the image held here");
      return actions;
    }
    state_ = BackupState::syncing;
    generation_ = generation;
    return actions;
  }
  generation_ = std::max(generation_, generation);
  if (acknowledges() && image_complete_)
    actions.push_back(SendMessage{wire::Ack{{generation_, newest_.epoch}}, generation_});
  return actions;
}

Actions Backup::on_disconnected(Time) {
  Actions actions;
  connected_ = false;
  // Half an image is worth nothing, and this incarnation began to hold state: the next one is new.
  if (state_ == BackupState::syncing)
    give_up(actions, "connection lost before the image was complete");
  return actions;
}

Actions Backup::on_epoch_complete(Time, EpochId id, bool first, bool guest_ended,
                                  bool guest_paused) {
  Actions actions;
  if (!acknowledges()) return actions;
  newest_ = id;
  if (newest_here_ <= id) on_epoch_here(id, guest_ended, guest_paused);
  if (state_ == BackupState::syncing) {
    if (!first) return actions;  // Cannot be: the assembler refuses it.
    image_complete_ = true;
    state_ = BackupState::holding;
  }
  // The acknowledgement first: output waits for it, and applying is a copy that cannot fail.
  actions.push_back(SendMessage{wire::Ack{{generation_, id.epoch}}, generation_});
  actions.push_back(ApplyEpoch{id});
  return actions;
}

void Backup::on_epoch_here(EpochId id, bool guest_ended, bool guest_paused) {
  newest_here_ = id;
  guest_ended_ = guest_ended;
  guest_paused_ = guest_paused;
}

Actions Backup::on_joined(Time, Generation generation) {
  Actions actions;
  if (!acknowledges() || !image_complete_) return actions;
  generation_ = std::max(generation_, generation);
  if (state_ == BackupState::holding) actions.push_back(Tell{"in_sync", {}});
  state_ = BackupState::in_sync;
  actions.push_back(SendMessage{wire::Ack{{generation_, newest_.epoch}}, generation_});
  return actions;
}

Actions Backup::on_switch_over(Time, EpochId id) {
  Actions actions;
  if (id.epoch > newest_.epoch) return actions;  // It waits for an epoch that never came.
  forced_ = true;
  claim(actions, "the primary hands over");
  return actions;
}

Actions Backup::on_suspected(Time now, const std::string& why, Nanos head_start_given) {
  Actions actions;
  if (bears_silence(now)) {
    silent_since_ = why;
    return actions;
  }
  suspected_ = true;
  if (state_ == BackupState::syncing) {
    give_up(actions, why);
    return actions;
  }
  if (state_ != BackupState::holding && state_ != BackupState::in_sync) return actions;
  actions.push_back(Tell{"suspected", why});
  if (options_.automatic)
    claim_at_ = now + std::max(options_.head_start - head_start_given, Nanos{0});
  return actions;
}

Actions Backup::on_alive(Time) {
  suspected_ = false;
  silent_since_.reset();
  claim_at_.reset();
  // Nothing was attempted yet, so there is nothing to wait for.
  if (state_ == BackupState::claiming && !forced_ && !attempt_) state_ = before_claim_;
  return {};
}

Actions Backup::on_hold(Time now, Nanos at_most) {
  Actions actions;
  if (state_ != BackupState::in_sync || !connected_) return actions;
  hold_until_ = now + at_most;
  actions.push_back(SendMessage{wire::Hold{0, true}, generation_});
  return actions;
}

Actions Backup::on_ended(Time, const std::string& text) {
  Actions actions;
  // Only hearsay: the record decides. It is read like before a claim, and says "ended".
  claim(actions, text);
  return actions;
}

Actions Backup::on_swap(Time now, const SwapAnswer& answer) {
  Actions actions;
  question_out_ = false;
  if (!attempt_) return actions;
  if (answer.outcome == SwapOutcome::won ||
      (answer.outcome == SwapOutcome::lost && answer.record == attempt_->to)) {
    won(actions, OwnershipRecord(attempt_->to));
  } else if (answer.outcome == SwapOutcome::lost) {
    if (answer.record.ended) {
      stand_down(actions, "the guest ended");
    } else {
      give_up(actions, fmt::format("lost to {}", to_string(answer.record.owner)));
    }
  } else {
    // It may have landed, or land later: the same swap again, and no acknowledgement meanwhile.
    ask_at_ = now + options_.ask_again;
    actions.push_back(Tell{"arbiter_unknown", answer.detail});
  }
  return actions;
}

Actions Backup::on_read(Time now, const ReadAnswer& answer) {
  Actions actions;
  question_out_ = false;
  if (state_ != BackupState::claiming) return actions;
  if (answer.outcome == ReadAnswer::Outcome::found) {
    decide(now, actions, answer.record);
  } else {
    ask_at_ = now + options_.ask_again;
    actions.push_back(Tell{"arbiter_unknown", answer.detail});
  }
  return actions;
}

Status Backup::can_fail_over() const {
  if (state_ == BackupState::holding || state_ == BackupState::in_sync) return {};
  return Status(Code::refused,
                fmt::format("cannot take over while {}: {}", to_string(state_),
                            state_ == BackupState::syncing ? "the image is not complete yet"
                                                           : "see `ftctl status`"));
}

Actions Backup::fail_over(Time) {
  Actions actions;
  forced_ = true;
  claim(actions, "asked to fail over");
  return actions;
}

}  // namespace libft::core
