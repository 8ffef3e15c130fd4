// SPDX-License-Identifier: LGPL-2.1-or-later
// Replay's part of the runner: the primary cuts logs while its guest runs, the backup acknowledges
// them when they are here and executes them later. Recorder, assembler and follower are the real
// ones.
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {

// --- the primary's
// --------------------------------------------------------------------------------

void Replica::cut_log(const core::TakeCheckpoint& order) {
  if (primary_may_lose_bit() && world_.flips.chance(3)) {
    world_.trace.add(host_.name(), "its running guest loses a bit");
    ++world_.counters.flips;
    guest_->lose_bit();
  }
  gate_->seal_late = world_.is(Mutant::cut_before_seal);
  checkpoint::CapturedEpoch* const image = capture_image(order);
  if (order.stay_paused && !order.guest_ended && !guest_->pause())
    return add(primary_->on_capture_failed(now(), order.id, "the guest's process died"));
  if (!guest_->alive())
    return add(primary_->on_capture_failed(now(), order.id, "the guest's process died"));
  if (!image && !gate_->seal(order.id)) {
    if (order.stay_paused) (void)guest_->resume();
    return add(primary_->on_capture_failed(now(), order.id, "the gate is full"));
  }
  const bool paused = guest_->owner_paused();
  Moment moment{guest_->hash(), guest_->counter(), guest_->chain(), order.guest_ended,
                paused,         guest_->lost_bit()};
  guest_->amid_mark = {};
  if (world_.is(Mutant::cut_in_pieces))
    guest_->amid_mark = [this] { guest_->receive(world_.random.next() * 3 + 1); };
  auto cut = recorder_->cut({.id = order.id,
                             .hash = WithHash::yes,
                             .guest_ended = order.guest_ended,
                             .guest_paused = paused,
                             .released = primary_->newest_released()});
  if (!cut) return world_.report(rule::kReplay, cut.error().to_string());
  if (image) (void)guest_->resume();
  world_.oracle.on_captured(order.id, moment, strategy_ == Strategy::lockstep);
  if (gate_->seal_late) {
    guest_->step(1000);
    gate_->finish_seal();
  }
  ++world_.counters.epochs;
  ++world_.counters.logs;
  world_.trace.add(host_.name(), "cuts", order.id.generation.value, order.id.epoch.value);
  core::LastCheckpoint last;
  last.resumed_at = now();
  last.ran = now() - guest_ran_since_;
  guest_ran_since_ = now();
  add(primary_->on_captured(now(), order.id, last));
  if (image && world_.is(Mutant::rebase_before_its_log)) send_image(image);
  if (connection_ && peer_incarnation_) send_log(**cut);
  if (image && !world_.is(Mutant::rebase_before_its_log)) send_image(image);
  if (world_.is(Mutant::release_before_ack)) add({core::ReleaseOutput{order.id}});
}

void Replica::send_log(wire::LogEpoch log) {
  if (spliced_onto_) log.base = *std::exchange(spliced_onto_, std::nullopt);
  const auto frames = wire::encode_log(world_.guest, log);
  const std::span<const std::byte> piece(frames);
  (void)to_network({&piece, 1});
}

void Replica::send_lacking_logs(const EpochId& newest_complete) {
  if (!recorder_) return;
  const auto lacking = recorder_->since(newest_complete);
  if (world_.is(Mutant::splice_logs) && lacking.size() > 1) {
    spliced_onto_ = newest_complete;
    wire::LogEpoch last = *lacking.back();
    last.mark.from = lacking.front()->mark.from;
    return send_log(std::move(last));
  }
  for (const auto& log : lacking) send_log(*log);
}

// --- the backup's
// ---------------------------------------------------------------------------------

void Replica::on_log(const wire::Frame& frame) {
  // Mutant: acknowledges what it was only told of.
  if (world_.is(Mutant::execute_before_whole))
    send(wire::Ack{{backup_->generation(), Epoch{frame.header.id.epoch.value + 1}}},
         backup_->generation());
  // After a reconnection, what was here and not acknowledged when this replica said hello comes
  // again.
  const bool logged = follower_ || shelf_;
  if (logged && frame.header.id <= logs_.newest()) return;
  auto whole = logs_.on_frame(frame);
  if (whole && *whole && !logged)
    whole = failure(Code::corrupt, "a log, and no checkpoint that it goes on from");
  if (!whole) return damaged(whole.error());
  if (!*whole) return;
  const wire::LogMark mark = (**whole).mark;
  world_.oracle.on_complete(self_, (**whole).id);
  if (strategy_ == Strategy::lockstep) {
    executing_.push_back({(**whole).id, mark.guest_ended && !world_.is(Mutant::resurrect_ended),
                          mark.guest_paused && !world_.is(Mutant::resume_paused),
                          world_.is(Mutant::ack_unexecuted)});
    if (!world_.is(Mutant::here_unheard))
      backup_->on_epoch_here(executing_.back().id, executing_.back().guest_ended,
                             executing_.back().guest_paused);
    to_follow_.push_back(std::move(**whole));
    acknowledge_executed();
    return follow_later();
  }
  log_ = std::move(**whole);
  if (!backup_->acknowledges())  // Only a mutant reads on while it wants to take over.
    return add({core::SendMessage{wire::Ack{{backup_->generation(), log_->id.epoch}},
                                  backup_->generation()},
                core::ApplyEpoch{log_->id}});
  const bool ended = mark.guest_ended && !world_.is(Mutant::resurrect_ended);
  const bool paused = mark.guest_paused && !world_.is(Mutant::resume_paused);
  add(backup_->on_epoch_complete(now(), log_->id, false, ended, paused));
}

void Replica::begin_to_follow(EpochId base) {
  forget_votes();
  follower_.reset();
  delay_.reset();
  shelf_.reset();
  to_follow_.clear();
  if (const Status loaded = guest_->load_state(assembler_->state()); !loaded)
    return world_.report(rule::kReplay, loaded.to_string());
  logs_.begin(base, *guest_->position());
  if (strategy_ == Strategy::hybrid) {
    shelf_.emplace(base);
    return;
  }
  begin_delay();
  follower_ = std::make_unique<replay::Follower>(*guest_);
  world_.oracle.on_executed(self_, base, *guest_);
}

// On a thread of its own in production: some time after the acknowledgement, in order.
void Replica::follow_later() {
  if (following_later_) return;
  following_later_ = true;
  host_.later(world_.random.between(Nanos{0}, Millis{20}), [this] {
    following_later_ = false;
    if (!follower_ || !follow_one()) return;
    execute_due();  // It may have been full.
    if (!to_follow_.empty()) follow_later();
  });
}

// False: nothing was left, or it failed.
bool Replica::follow_one() {
  if (to_follow_.empty() || in_doubt()) return false;
  wire::LogEpoch log = std::move(to_follow_.front());
  to_follow_.pop_front();
  give_witness(log);
  spoil(log);
  if (strategy_ == Strategy::lockstep && !flipped_ && world_.flips.chance(has_witness() ? 4 : 1)) {
    world_.trace.add(host_.name(), "loses a bit");
    ++world_.counters.flips;
    flipped_ = true;
    guest_->lose_bit();
  }
  const Status followed = follower_->follow(log);
  const bool ignored = world_.is(Mutant::accept_other_output);
  const bool lost_bit = flipped_ || world_.oracle.is_spoilt(log.id);
  if (!followed && !lost_bit) world_.report(rule::kReplay, followed.to_string());
  vote_here(log);
  if (!followed && !ignored) {
    if (asks_witness(log.id)) return false;
    to_follow_.push_front(std::move(log));  // Not executed.
    if (lost_bit && backup_ && backup_->acknowledges() && !world_.is(Mutant::promote_apart))
      add({core::StartOver{followed.message()}});
    return false;
  }
  world_.oracle.on_executed(self_, log.id, *guest_);
  for (Executing& executing : executing_)
    if (executing.id == log.id || world_.is(Mutant::ack_all_here)) executing.done = true;
  if (delay_) delay_->executed(log.id);
  acknowledge_executed();
  if (shelf_ && log.id == shelf_->image()) adopt();
  if (followed) join_witness();
  return true;
}

// lockstep: without a connection nobody would hear it; who claims acknowledges nothing.
void Replica::acknowledge_executed() {
  const auto acknowledges = [this] {
    return backup_ && (backup_->acknowledges() || world_.is(Mutant::ack_executed_while_claiming));
  };
  while (connection_ && welcomed_ && acknowledges() && !executing_.empty() &&
         executing_.front().done) {
    const Executing done = executing_.front();
    executing_.pop_front();
    add(backup_->on_epoch_complete(now(), done.id, false, done.guest_ended, done.guest_paused));
  }
}

// Where three vote. Of two that differ nobody can say which one erred.
bool Replica::primary_may_lose_bit() const {
  if (strategy_ != Strategy::lockstep || !connection_ || peer_ < 0 || guest_->lost_bit())
    return false;
  Replica* const peer = world_.host(peer_).replica();
  return peer != nullptr && peer->backup() != nullptr && peer->has_witness();
}

// Mutants: what was logged is not what is executed.
void Replica::spoil(wire::LogEpoch& log) {
  const bool late = world_.is(Mutant::input_late), lost = world_.is(Mutant::input_lost),
             twice = world_.is(Mutant::input_twice);
  if (!late && !lost && !twice) return;
  std::vector<wire::LoggedInput> inputs;
  std::span<const std::byte> rest = log.coded;
  for (Position at = log.mark.from; !rest.empty();) {
    inputs.push_back(*wire::next_input(rest, at));
    at = inputs.back().at;
  }
  if (inputs.empty() || (late && inputs.back().at == log.mark.until)) return;
  if (late) ++inputs.back().at.value;
  if (twice) inputs.push_back(inputs.back());
  if (lost) inputs.pop_back();
  log.coded.clear();
  Position before = log.mark.from;
  for (const auto& input : inputs) {
    wire::append_input(log.coded, before, input.at, input.input);
    before = input.at;
  }
}

}  // namespace libft::sim
