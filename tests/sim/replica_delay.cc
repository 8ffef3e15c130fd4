// SPDX-License-Identifier: LGPL-2.1-or-later
// The backup that executes late on purpose: logs are acknowledged when they are here and wait for
// their time, by the rules of the session's BackupRunner. The LogDelay is the real one.
#include <algorithm>
#include <limits>
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {
namespace {

// What the follower's thread lets wait: few, so that it is often full.
constexpr std::size_t kFollowMax = 4;

std::size_t bytes_of(const wire::LogEpoch& log) { return sizeof log + log.coded.size(); }

}  // namespace

// Whether this process, when it is a backup, is one of that kind.
void Replica::choose_delay() {
  if (!world_.late || !world_.delays.chance(700)) return;
  late_ = Late{world_.delays.between(Nanos{0}, Millis{1200}), world_.delays.below(16384)};
}

void Replica::begin_delay() {
  delay_.reset();
  if (!late_) return;
  const bool unbounded = world_.is(Mutant::delay_unbounded);
  delay_.emplace(late_->delay,
                 unbounded ? std::numeric_limits<std::size_t>::max() : late_->bytes_max);
}

bool Replica::follower_full() const { return to_follow_.size() >= kFollowMax; }

// What finds no room is left unread, and is not acknowledged.
bool Replica::has_room() const { return !delay_ || delay_->has_room() || !follower_full(); }

// It cannot execute late under this strategy: whoever started it does so anew, perhaps without.
void Replica::cannot_be_late() {
  world_.trace.add(host_.name(), "cannot be late");
  connection_lost("this backup is to execute late, which it can under replay only");
  host_.later(world_.delays.between(Millis{50}, Millis{500}), [this] {
    if (!backup_) return;
    host_.crash(false);
    host_.start();
  });
}

void Replica::keep_until_due(wire::LogEpoch log) {
  ++world_.counters.delayed;
  const EpochId id = log.id;
  world_.oracle.on_kept(self_, id, bytes_of(log), now() + late_->delay);
  delay_->keep(now(), std::move(log));
  execute_due();
}

void Replica::execute_due() {
  if (!delay_) return;
  const Nanos early = world_.is(Mutant::delay_too_short) ? late_->delay / 2 : Nanos{0};
  while (!follower_full()) {
    const bool shortens = !delay_->has_room();
    auto log = delay_->take_due(now() + early);
    if (!log) break;
    if (shortens) ++world_.counters.shortened;
    world_.oracle.on_due(self_, log->id, now(), late_->bytes_max);
    if (shortens && world_.is(Mutant::delay_drops_beyond_bound)) continue;
    execute_next(std::move(*log));
  }
  world_.oracle.check_kept(self_, late_->bytes_max, follower_full());
}

void Replica::execute_next(wire::LogEpoch log) {
  if (world_.is(Mutant::delay_turns_order))
    to_follow_.push_front(std::move(log));
  else
    to_follow_.push_back(std::move(log));
  follow_later();
}

// A take-over waits for no time.
void Replica::take_delayed() {
  auto rest = delay_->take_all();
  delay_.reset();
  if (!rest.empty()) ++world_.counters.rests;
  if (world_.is(Mutant::promote_forgets_delayed)) rest.clear();
  for (auto& log : rest) to_follow_.push_back(std::move(log));
  world_.oracle.on_rest(self_);
}

}  // namespace libft::sim
