// SPDX-License-Identifier: LGPL-2.1-or-later
// A change of strategy amid the protection: the primary's steps, and what the backup becomes.
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {
namespace {

bool runs_at_both(Strategy strategy) {
  return strategy == Strategy::replay || strategy == Strategy::lockstep;
}

bool is_logged(Strategy strategy) {
  return strategy != Strategy::checkpoint && strategy != Strategy::compare;
}

}  // namespace

std::uint64_t features_of(Strategy strategy) {
  switch (strategy) {
    case Strategy::checkpoint: return 0;
    case Strategy::replay: return wire::feature::logs;
    case Strategy::lockstep: return wire::feature::logs | wire::feature::executed;
    case Strategy::hybrid: return wire::feature::logs | wire::feature::rebases;
    case Strategy::compare: return wire::feature::compares;
  }
  return 0;
}

Strategy strategy_of(std::uint64_t features) {
  for (const Strategy each :
       {Strategy::replay, Strategy::lockstep, Strategy::hybrid, Strategy::compare})
    if (features == features_of(each)) return each;
  return Strategy::checkpoint;
}

// --- the primary's
// --------------------------------------------------------------------------------

void Replica::owner_changes_strategy(Strategy to) {
  host_.post([this, to] {
    if (!primary_ || change_ || strategy_ == to) return;
    if (to == Strategy::compare && rewrites_) return;
    if (!primary_->peer()) {
      strategy_ = to;
      return;
    }
    if (!primary_->is_protected()) return;
    world_.trace.add(host_.name(), "is to change its strategy", static_cast<std::uint64_t>(to));
    change_ = Changing{to, false, false, std::nullopt};
    rebase_at_ = now();
    add(primary_->on_output_waiting(now()));
  });
}

// True: the order waits until nothing is in flight.
bool Replica::change_first(const core::TakeCheckpoint& order) {
  if (!change_ || !connection_ || !primary_->is_protected() || order.stay_paused ||
      order.guest_ended)
    return false;
  if (strategy_ == Strategy::hybrid && (rebase_ || !change_->rebased)) return false;
  if (runs_at_both(strategy_) && !change_->cut_next) {
    forget_written();
    return false;
  }
  if (!drained()) {
    change_->waits = order;
    return true;
  }
  take_step(order);
  return false;
}

bool Replica::logging() const { return recorder_ && recorder_->begun(); }

bool Replica::drained() const {
  if (world_.is(Mutant::change_undrained)) return true;
  return primary_->inflight() == 0 &&
         (!logging() || primary_->newest_released().epoch >= primary_->newest_captured());
}

void Replica::forget_written() {
  change_->cut_next = true;
  PageSet written;
  if (!world_.is(Mutant::change_forgets_late)) (void)guest_->take_written(written);
}

void Replica::take_step(const core::TakeCheckpoint& order) {
  const bool between = runs_at_both(strategy_) && change_->to == Strategy::checkpoint;
  const Strategy from = strategy_, to = between ? Strategy::hybrid : change_->to;
  ++world_.counters.changes;
  world_.trace.add(host_.name(), "changes its strategy", static_cast<std::uint64_t>(to));
  send(wire::Change{features_of(to)}, primary_->record().generation);
  if (!is_logged(from) && !is_logged(to)) {
    // The next checkpoint is one as ever.
  } else if (to == Strategy::checkpoint) {
    image_before_ = {order.id.epoch, encoder_->base()};
    recorder_.reset();
  } else if (from == Strategy::checkpoint) {
    recorder_ = std::make_unique<replay::Recorder>(*guest_);
  } else if (runs_at_both(from) && to == Strategy::hybrid) {
    PageSet written;
    if (world_.is(Mutant::change_forgets_late)) (void)guest_->take_written(written);
    encoder_->adopt(recorder_->newest());
    rebase_ = Rebase{.id = recorder_->newest(), .pages = {}, .adopted = true};
    change_->rebased = false;
    rebase_at_ = now();
  }
  strategy_ = to;
  if (!comparison_) begin_comparison();
  if (to == change_->to) change_.reset();
  trouble_a_change();
}

// Connections and hosts seldom fail in just these milliseconds. A host that dies with its
// connection takes with it what it sent last.
void Replica::trouble_a_change() {
  if (world_.calm || !world_.rebases.chance(400)) return;
  const Nanos soon = world_.rebases.between(Nanos{0}, Millis{1});
  const bool breaks = world_.rebases.chance(700), dies = world_.rebases.chance(300);
  host_.later(soon, [this, connection = *connection_, breaks, dies] {
    if (breaks) world_.network.reset(connection);
    if (dies) host_.crash(true);
  });
}

// Nothing is in flight any more, or nobody is there who could acknowledge it.
void Replica::go_on_with_change() {
  if (!change_ || !primary_) return;
  const bool alone = !primary_->peer();
  if (change_->waits && (!connection_ || drained())) {
    const core::TakeCheckpoint order = *std::exchange(change_->waits, std::nullopt);
    if (connection_)
      begin_checkpoint(order);
    else
      add(primary_->on_capture_failed(now(), order.id, "the connection broke"));
  }
  if (alone) change_.reset();
}

// The backup is back. Logs that it lacks come again, unless the checkpoint that they begin with
// never came: then the next epoch is one, with everything.
bool Replica::goes_on_with_logs(const EpochId& newest_complete) {
  if (!logging()) return false;
  if (newest_complete.epoch >= log_begun_at_) return true;
  recorder_.reset();  // First: it unplugs itself from the guest.
  recorder_ = std::make_unique<replay::Recorder>(*guest_);
  return false;
}

// --- the backup's
// ---------------------------------------------------------------------------------

void Replica::become(Strategy strategy) {
  if (strategy == strategy_) return;
  world_.trace.add(host_.name(), "becomes", static_cast<std::uint64_t>(strategy));
  const bool follows = follower_ && !shelf_;
  strategy_ = strategy;
  if (strategy != Strategy::lockstep) drop_witness();
  if (strategy == Strategy::compare) return begin_to_shadow();
  if (late_) return add({core::StartOver{"it is to execute late, which it can under replay only"}});
  if (follows && strategy == Strategy::checkpoint)
    return world_.report(rule::kReplay, "from logs to checkpoints without an image between");
  if (follows && strategy == Strategy::hybrid) {
    shelf_.emplace(logs_.newest());
    if (to_follow_.empty() || world_.is(Mutant::change_adopts_early)) adopt();
  } else if (shelf_ && strategy != Strategy::checkpoint) {
    take_from_shelf();
    follow_later();
  } else if (shelf_ && world_.is(Mutant::change_drops_shelf)) {
    (void)shelf_->take();
  }
}

// The follower has come to where the shelf begins: its memory is the image.
void Replica::adopt() {
  follower_.reset();
  to_follow_.clear();
  std::vector<std::byte> state;
  (void)guest_->save_state();
  (void)guest_->fetch_state(state);
  assembler_->adopt(shelf_->image(), std::move(state));
  world_.trace.add(host_.name(), "adopts", shelf_->image().epoch.value);
  world_.oracle.on_applied(self_, shelf_->image(),
                           SimGuest::hash(guest_->info(), assembler_->state()));
  send(wire::Followed{shelf_->image()}, backup_->generation());
}

}  // namespace libft::sim
