// SPDX-License-Identifier: LGPL-2.1-or-later
// Another process goes on with a replica: the wish, the agreement with the peer, what is left
// behind, and how the next one begins. Guest, gate and the backup's memory stay; all else is new.
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {

bool Replica::can_hold() const {
  if (hold_ || !connection_ || strategy_ != Strategy::checkpoint || change_) return false;
  if (rewrites_ || shadow_)
    return false;  // What a gate rewrites, or runs beside its image, nobody takes up.
  return primary_ ? primary_->can_hold().ok() : backup_ && welcomed_ && backup_->can_hold().ok();
}

void Replica::owner_holds() {
  host_.post([this] {
    if (!can_hold()) return;
    const Nanos at_most = world_.holds.between(Millis{100}, Millis{1000});
    world_.trace.add(host_.name(), "is to be held");
    hold_.emplace(Holding{++holds_});
    const auto ms = std::chrono::duration_cast<Millis>(at_most).count();
    send(wire::Hold{static_cast<std::uint32_t>(ms)},
         primary_ ? primary_->record().generation : backup_->generation());
    host_.later(at_most, [this, number = holds_] {
      if (hold_ && hold_->number == number) let_go();
    });
  });
}

void Replica::let_go() {
  hold_.reset();
  if (primary_) add(primary_->let_go(now()));
}

void Replica::on_hold(const wire::Hold& hold) {
  if (!hold.answer) {
    if (hold_ && primary_) return;
    hold_.reset();
    const Nanos at_most = Millis{hold.at_most_ms};
    return add(primary_ ? primary_->on_hold(now(), at_most) : backup_->on_hold(now(), at_most));
  }
  if (!hold_ || std::exchange(hold_->agreed, true)) return;
  if (primary_) return add(primary_->hold(now()));
  if (!backup_->can_hold()) return hold_.reset();
  const auto state = assembler_->state();
  hold_->image = backup_->image();
  hold_->state.assign(state.begin(), state.end());
  // Mutant: what was handed over is of an epoch, and more are acknowledged.
  if (world_.is(Mutant::held_acknowledges_on))
    return host_.later(Millis{60}, [this] {
      if (hold_ && backup_) leave_to_another();
    });
  leave_to_another();
}

// Nobody may take its place after all, and the process may die of it.
void Replica::leave_to_another() {
  if (!hold_) return;
  const auto fate = world_.calm ? 9 : world_.holds.below(10);
  if (fate == 0) return let_go();
  if (fate == 1)
    return host_.later_unposted(Nanos{0}, [host = &host_] {
      host->crash(false);
      host->start();
    });
  Left left{.image = hold_->image, .state = std::move(hold_->state)};
  if (primary_) {
    left.record = primary_->record();
    left.newest = primary_->newest_released();
  }
  world_.trace.add(host_.name(), "is held", left.newest.generation.value, left.newest.epoch.value);
  ++world_.counters.holds;
  end_process();
  host_.occupy(world_.holds.between(Millis{5}, Millis{700}), [this, left = std::move(left)] {
    if (left.image)
      take_up_backup(left);
    else
      take_up_primary(left);
  });
}

void Replica::end_process() {
  if (connection_) world_.network.close(*connection_, host_.index());
  connection_.reset();
  reader_.reset();
  for (const auto& [connection, unused] : strangers_)
    world_.network.close(connection, host_.index());
  strangers_.clear();
  host_.unwatch();
  hold_.reset();
  todo_.clear();
  flight_.clear();
  wake_.reset();
  ++question_;
  ++sync_;
  backup_before_swap_.reset();
  primary_.reset();
  backup_.reset();
  checkpointer_.reset();
  encoder_.reset();
  dialing_ = welcomed_ = false;
}

// The guest runs before anybody has read the record: what it sends is held.
void Replica::take_up_primary(const Left& left) {
  world_.trace.add(host_.name(), "goes on", left.newest.generation.value, left.newest.epoch.value);
  ++stalls_;  // Whatever it knew may be over: it asks before it releases.
  if (guest_->alive()) (void)guest_->resume();
  for (int i = 0; i < 3; ++i)
    if (guest_->step(world_.send_permille))
      world_.oracle.on_guest_step(self_, *guest_, owner_resumed_);
  if (world_.is(Mutant::held_forgets_written)) (void)guest_->start_tracking();
  make_checkpointer();
  primary_ =
      core::Primary::held(self_, left.record, left.newest.epoch, world_.primary_options, now());
  guest_ran_since_ = now();
  if (world_.is(Mutant::held_opens_gate)) open_gate();
  if (world_.is(Mutant::held_unasked))
    add(primary_->on_read(now(), {ReadAnswer::Outcome::found, left.record, {}}));
}

void Replica::take_up_backup(const Left& left) {
  world_.trace.add(host_.name(), "goes on", left.image->newest.generation.value,
                   left.image->newest.epoch.value);
  auto state = left.state;
  if (world_.is(Mutant::held_with_old_state) && !old_state_.empty()) state = old_state_;
  assembler_ =
      std::make_unique<checkpoint::EpochAssembler>(world_.guest, guest_->info(), world_.arena);
  assembler_->take_over(left.image->newest, std::move(state));
  backup_ = core::Backup::held(self_, *left.image, world_.backup_options, now());
  dial();
}

}  // namespace libft::sim
