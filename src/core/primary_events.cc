// SPDX-License-Identifier: LGPL-2.1-or-later
// What the Primary does at each event, and what its owner may wish.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/primary.h"

namespace libft::core {

Actions Primary::on_tick(Time now) {
  Actions actions;
  observe(now);
  if (state_ == PrimaryState::handing_over && !guest_lost_ && !attempt_ &&
      now - handed_over_at_ >= options_.handover_patience) {
    remove_peer(actions, "the backup did not take over in time");
    return actions;
  }
  if (state_ == PrimaryState::protecting && !peer_connected_ && now >= reconnect_by()) {
    // Its heart beats, but it does not come back: output cannot wait for ever.
    remove_peer(actions, "the backup did not reconnect in time");
    return actions;
  }
  if (state_ == PrimaryState::protecting && silent_since_ && now >= hold_until_) {
    remove_peer(actions, *std::exchange(silent_since_, std::nullopt));
    return actions;
  }
  if (state_ == PrimaryState::syncing && now - progress_at_ >= options_.sync_patience) {
    go_solo(actions, "the first synchronisation stands still");
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
    progress_at_ = now;
    actions.push_back(Tell{"syncing", to_string(*peer_)});
    actions.push_back(BeginSync{});
    return actions;
  }
  // The same backup is back with its image: what it lacks goes with the next epoch.
  peer_connected_ = true;
  hold_until_ = {};
  silent_since_.reset();
  progress_at_ = now;
  if (state_ == PrimaryState::handing_over) {  // It may never have heard that it is to take over.
    ask_to_take_over(actions, hello.newest_complete.epoch);
    return actions;
  }
  acknowledged_ = captured_;
  in_flight_.clear();  // Nothing is on the new connection.
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

Actions Primary::on_sync_progress(Time now) {
  observe(now);
  if (state_ == PrimaryState::syncing) progress_at_ = now;
  return {};
}

Actions Primary::on_sync_converged(Time now) {
  Actions actions;
  observe(now);
  if (state_ != PrimaryState::syncing) return actions;
  state_ = PrimaryState::joining;
  begin_joining(actions);
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
    case PrimaryState::protecting:
      if (bears_silence(now)) {
        silent_since_ = why;
      } else {
        remove_peer(actions, why);
      }
      break;
    case PrimaryState::handing_over:
      if (!guest_lost_) remove_peer(actions, why);
      break;
    default: break;
  }
  return actions;
}

Actions Primary::on_alive(Time now) {
  observe(now);
  silent_since_.reset();
  return {};
}

Actions Primary::on_hold(Time now, Nanos at_most) {
  Actions actions;
  observe(now);
  if (!is_protected() || hold_wanted_) return actions;  // Not two at a time.
  hold_until_ = now + at_most;
  actions.push_back(SendMessage{wire::Hold{0, true}, record_.generation});
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
  if (peer_) in_flight_.push_back(id.epoch);
  if (join_next_) begin_joining(actions);
  run_on(actions);
  return actions;
}

Actions Primary::on_capture_failed(Time now, EpochId id, const std::string& why) {
  Actions actions;
  observe(now);
  capturing_ = false;
  final_.reset();
  hold_wanted_ = false;
  last_.resumed_at = now;  // Tried again after an interval.
  actions.push_back(Tell{"checkpoint_failed", fmt::format("epoch {}: {}", to_string(id), why)});
  if (join_next_) {
    begin_joining(actions);
  } else if (state_ == PrimaryState::joining && captured_ < first_) {
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
  std::erase_if(in_flight_, [&](Epoch epoch) { return epoch <= id.epoch; });
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
  if (is_protected() && !final_ && !hold_wanted_) return {};
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

Status Primary::can_hold() const { return can_switch_over(); }

Actions Primary::hold(Time now) {
  Actions actions;
  observe(now);
  if (!can_hold()) return actions;
  hold_wanted_ = true;
  held_ = false;
  maybe_checkpoint(now, actions);
  return actions;
}

Actions Primary::let_go(Time now) {
  Actions actions;
  observe(now);
  if (!std::exchange(hold_wanted_, false)) return actions;
  held_ = false;
  if (guest_ended_ && !capturing_) final_.reset();  // That epoch was not yet its last.
  run_on(actions);
  maybe_checkpoint(now, actions);
  return actions;
}

}  // namespace libft::core
