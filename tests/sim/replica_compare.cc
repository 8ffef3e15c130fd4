// SPDX-License-Identifier: LGPL-2.1-or-later
// Compare's part of the runner, as session/primary_runner_compare.cc and backup_runner_compare.cc
// have it: both hosts run the guest, and what both say leaves between two checkpoints. Comparison
// and Follower are the real ones, between a guest that answers clients and a gate.
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {

using compare::Referee;

// --- the primary's
// --------------------------------------------------------------------------------

// A gate that rewrites connections is not compared: they are known by other numbers than the
// guest's.
void Replica::begin_comparison() {
  comparison_.reset();
  if (strategy_ != Strategy::compare) return;
  if (rewrites_) return;
  gate_->lets_all_out = world_.is(Mutant::released_unsaid);
  libft::Replica ports;
  ports.compared = gate_.get();
  ports.input = gate_.get();
  comparison_ = std::make_unique<session::Comparison>(
      ports, world_.queue, world_.guest, SessionOptions{},
      session::Comparison::Sinks{
          .copies_wait = [this] { host_.later_unposted(Nanos{0}, [this] { send_copies(); }); },
          .checkpoint = [this] { host_.later(Nanos{0}, [this] { on_checkpoint_wanted(); }); },
          .deadline_set = [this] { host_.later(Nanos{0}, [] {}); }});
}

bool Replica::may_run_from(const core::TakeCheckpoint& order) const {
  return comparison_ && strategy_ == Strategy::compare && connection_ &&
         primary_->state() == core::PrimaryState::protecting && !order.stay_paused &&
         !order.guest_ended && !change_ && comparison_->worth_it() &&
         (!guest_->owner_paused() || world_.is(Mutant::paused_followed));
}

// Seldom while both say the same; as without it else.
void Replica::keep_rhythm() {
  if (!comparison_) return;
  auto interval = world_.primary_options.interval;
  if (!comparison_->rests()) {
    interval.kind = core::IntervalOptions::Kind::adaptive;
    interval.interval = interval.idle = kCompareInterval;
  }
  primary_->set_rhythm(interval, world_.primary_options.inflight_max);
}

void Replica::rest_comparison() {
  if (!comparison_ || comparison_->rests() || world_.is(Mutant::compared_unprotected)) return;
  comparison_->rest();
  keep_rhythm();
}

void Replica::watch_comparison() {
  if (!comparison_ || comparison_->tick()) return;
  keep_rhythm();
  add(primary_->on_output_waiting(now()));
}

void Replica::send_copies() {
  if (!comparison_) return;
  auto frames = comparison_->take_copies();
  if (connection_ && !frames.empty())
    world_.network.send(*connection_, host_.index(), std::move(frames));
}

void Replica::on_checkpoint_wanted() {
  if (primary_ && comparison_ && comparison_->checkpoint_wanted())
    add(primary_->on_output_waiting(now()));
}

void Replica::on_frames_out(const wire::Frame& frame) {
  wire::Frame heard = frame;
  if (world_.is(Mutant::former_follower_heard)) heard.header.id = checkpoint_;
  if (const Status taken = comparison_->on_frames_out(heard); !taken) damaged(taken);
}

std::uint64_t Replica::features() const {
  return strategy_ == Strategy::compare && rewrites_ ? 0 : features_of(strategy_);
}

// Whoever may take over has said it, or dies with what it knows.
void Replica::left_compared(const Said& said) {
  ++world_.counters.compared;
  world_.oracle.on_compared(self_, gate_->epochs_held());
  const OwnershipRecord& truth = world_.arbiter.truth();
  for (const Incarnation& listed : truth.in_sync) {
    // What one lets out that was replaced, and does not know it yet, its successor has said.
    if (listed == self_ || (truth.owner != self_ && listed != truth.owner)) continue;
    for (auto& host : world_.hosts) {
      Replica* const other = host->replica();
      if (other && other->self_ == listed && !other->guest_->talk()->has_said(said))
        world_.report(rule::kOutputCommit, "a frame is out, and " + listed.host +
                                               " has not said it: " + to_string(said));
    }
  }
}

// --- the backup's
// ---------------------------------------------------------------------------------

void Replica::begin_to_shadow() {
  if (shadow_) return;
  (void)guest_->begin_speculation();
  assembler_->move_to(guest_->info());
  shadow_ = std::make_unique<Shadow>(*guest_, *gate_, world_.guest, [this] {
    host_.later_unposted(Nanos{0}, [this] { send_said(); });
  });
}

// An epoch is whole and acknowledged. What reads the image meanwhile goes first.
void Replica::apply_shadowed(const checkpoint::CompleteEpoch& epoch) {
  if (shadow_->loading) {
    shadow_->waits = epoch;
    return;
  }
  apply_to_image(epoch);
  if (!epoch.run && !shadow_->follower.from()) return;
  shadow_->loading = true;
  const EpochId id = epoch.id;
  shadow_->follower.stop();
  std::vector<std::byte> state;
  if (world_.is(Mutant::follower_of_old_state)) std::swap(state, old_state_);
  old_state_.assign(assembler_->state().begin(), assembler_->state().end());
  if (state.empty()) state = old_state_;
  host_.later(world_.compares.between(Millis{1}, Millis{40}),
              [this, id, run = epoch.run, life = self_, state = std::move(state)] {
                if (self_ == life && shadow_ && shadow_->loading) reloaded(id, run, state);
              });
}

void Replica::apply_to_image(const checkpoint::CompleteEpoch& epoch) {
  PageSet pages = assembler_->pages();
  if (epoch.first) pages = guest_->all_pages();
  assembler_->apply();
  world_.oracle.on_applied(self_, epoch.id, SimGuest::hash(guest_->info(), assembler_->state()));
  if (world_.is(Mutant::image_changes_forgotten) && !epoch.first) pages.clear();
  shadow_->follower.applied(epoch.id, pages);
}

void Replica::reloaded(EpochId id, bool run, std::span<const std::byte> state) {
  shadow_->loading = false;
  if (run && !dead_ && backup_) {
    guest_->keeps_own_pages = world_.is(Mutant::own_pages_kept);
    (void)shadow_->follower.restart(id, state);
    world_.oracle.on_follows(self_, id, guest_->hash_of_running());
    ++world_.counters.follows;
    world_.trace.add(host_.name(), "follows", id.generation.value, id.epoch.value);
  }
  if (shadow_->waits) {
    apply_shadowed(*std::exchange(shadow_->waits, std::nullopt));
  } else if (shadow_->follower.from() == id && connection_ && backup_->acknowledges()) {
    send(wire::Followed{id}, backup_->generation());
    send_said();
  }
}

// A replica that wants to take over says nothing more that lets the primary's output go.
void Replica::send_said() {
  if (!shadow_ || !connection_ || !welcomed_ || !backup_ || !backup_->acknowledges()) return;
  auto frames = shadow_->follower.take_said();
  if (!frames.empty()) world_.network.send(*connection_, host_.index(), std::move(frames));
}

void Replica::end_shadowing() {
  if (!shadow_) return;
  shadow_->follower.stop();
  shadow_.reset();
}

// The follower, if it runs from the newest checkpoint: then what it said may have left. True: it
// runs. Else that checkpoint is loaded.
bool Replica::load_shadowed() {
  shadow_->loading = false;
  if (shadow_->waits) {
    shadow_->follower.stop();
    apply_to_image(*std::exchange(shadow_->waits, std::nullopt));
  }
  const bool follows = shadow_->follower.from() == backup_->newest();
  if (follows && !world_.is(Mutant::promote_under_follower)) return true;
  (void)shadow_->follower.load(assembler_->state());
  return false;
}

// What came in since goes to it. A guest that is known by other numbers, as the one before may have
// been, takes its connections over once.
void Replica::take_over_shadowed(EpochId newest) {
  if (world_.rewriting && world_.clients) world_.clients->lose_connections();
  world_.rewriting = false;
  if (!shadow_) return;
  rewrites_ = shadow_->follower.take_over(newest);
  if (world_.is(Mutant::promoted_unmapped)) gate_->set_rewrite({});
  world_.rewriting = rewrites_;
  shadow_.reset();
}

// What one said that dies has left: whoever is left with its image is no replica any more.
void Replica::run_follower() {
  guest_->step(world_.send_permille);
  if (!world_.compares.chance(1)) return;
  world_.trace.add(host_.name(), "its follower dies");
  if (world_.is(Mutant::lost_follower_kept)) return shadow_->follower.stop();
  host_.post([this] {
    if (backup_ && shadow_) add({core::StartOver{"its follower died"}});
  });
}

}  // namespace libft::sim
