// SPDX-License-Identifier: LGPL-2.1-or-later
// lockstep with a witness: the backup's part of the vote, as session/backup_runner_vote.cc has it.
// The witness itself is no host here: it is a guest that executes what it is given some time later,
// now and then goes away, and is late. Follower and poll are the real ones.
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {
namespace {

using replay::Ballot;
using replay::Verdict;
using replay::Voter;

// The session's is 1 s; the simulation's patience is a twentieth all through.
constexpr Nanos kVotePatience = Millis{50};
constexpr unsigned kJoinsPermille = 200, kLeavesPermille = 2, kLatePermille = 3;
// What a vote must not be hurried by: its primary dies, an image that replaces takes long.
constexpr unsigned kPrimaryDiesPermille = 150, kLateImagePermille = 300;

Ballot ballot_of(const std::optional<Mark>& mark) {
  return mark ? Ballot{true, mark->said, mark->hash} : Ballot{.executed = false};
}

}  // namespace

Replica::Witness::Witness(World& world, const SimGuest& of)
    : guest(world.guest_pages, Random(world.votes.next(), 7), [](const Packet&) {}),
      before(world.guest_pages, Random(1, 1), [](const Packet&) {}) {
  guest.make_exact(world.send_permille);
  guest.copy(of);
  follower.emplace(guest);
}

void Replica::forget_votes() {
  witness_.reset();
  doubt_.reset();
  outvoted_primary_ = false;
}

void Replica::drop_witness() {
  if (!witness_) return;
  world_.trace.add(host_.name(), "loses its witness");
  witness_.reset();
  if (doubt_) add({core::StartOver{"no vote"}});
}

// Here both are known to be equal: what it is given is right.
void Replica::join_witness() {
  if (witness_ || !world_.witnessed || strategy_ != Strategy::lockstep) return;
  if (!world_.votes.chance(kJoinsPermille)) return;
  world_.trace.add(host_.name(), "has a witness");
  witness_ = std::make_unique<Witness>(world_, *guest_);
}

// Before it is executed here: the witness stands where this replica comes to be in doubt.
void Replica::give_witness(const wire::LogEpoch& log) {
  if (!witness_) return;
  if (world_.votes.chance(kLeavesPermille)) return drop_witness();
  witness_->logs.push_back(log);
  witness_later();
}

void Replica::witness_later() {
  if (std::exchange(witness_->executes, true)) return;
  const bool late = world_.votes.chance(kLatePermille);
  host_.later(world_.votes.between(Nanos{0}, late ? 4 * kVotePatience : Millis{15}),
              [this, witness = witness_.get(), life = self_] {
                if (self_ == life && witness_.get() == witness) witness_votes();
              });
}

void Replica::witness_votes() {
  witness_->executes = false;
  if (witness_->logs.empty()) return;
  const wire::LogEpoch log = std::move(witness_->logs.front());
  witness_->logs.pop_front();
  if (world_.flips.chance(3)) {
    world_.trace.add(host_.name(), "its witness loses a bit");
    ++world_.counters.flips;
    witness_->guest.lose_bit();
  }
  witness_->before.copy(witness_->guest);
  const bool equal = witness_->follower->follow(log).ok();
  const Ballot ballot = ballot_of(witness_->follower->came_to());
  if (equal && !witness_->logs.empty()) witness_later();
  settle(witness_->poll.vote(now(), log.id, Voter::witness, ballot));
}

void Replica::vote_here(const wire::LogEpoch& log) {
  if (!witness_) return;
  auto& poll = witness_->poll;
  poll.vote(now(), log.id, Voter::primary, {true, log.mark.said, log.mark.hash});
  settle(poll.vote(now(), log.id, Voter::backup, ballot_of(follower_->came_to())));
  if (!witness_ || doubt_) return;
  const auto waits = witness_->poll.waits_since();
  if (waits && now() - *waits > kVotePatience) drop_witness();
}

void Replica::settle(Verdict verdict) {
  if (verdict == Verdict::witness_odd) {
    ++world_.counters.outvoted;
    world_.trace.add(host_.name(), "outvotes its witness");
    if (!witness_->guest.lost_bit())
      world_.report(rule::kVote, "a witness that lost nothing is outvoted");
    return drop_witness();
  }
  if (verdict != Verdict::primary_odd && verdict != Verdict::backup_odd &&
      verdict != Verdict::no_majority)
    return;
  witness_->decided = verdict;
  if (world_.is(Mutant::minority_rules) && verdict == Verdict::backup_odd)
    witness_->decided = Verdict::primary_odd;
  decide();
}

// This replica differs. False: nobody can say who errs.
bool Replica::asks_witness(EpochId id) {
  if (!witness_ || strategy_ != Strategy::lockstep || !backup_ || !backup_->acknowledges())
    return false;
  world_.trace.add(host_.name(), "is in doubt", id.generation.value, id.epoch.value);
  doubt_ = Doubt{id, ++doubts_};
  if (!world_.calm && world_.votes.chance(kPrimaryDiesPermille)) world_.host(peer_).crash(true);
  host_.later(kVotePatience, [this, number = doubt_->number] {
    if (doubt_ && doubt_->number == number && !doubt_->replacing) drop_witness();
  });
  decide();
  return true;
}

void Replica::decide() {
  if (!doubt_ || doubt_->replacing || !witness_ || !witness_->decided) return;
  switch (*witness_->decided) {
    case Verdict::primary_odd: return outvote_primary();
    case Verdict::backup_odd: return outvote_self();
    default: add({core::StartOver{"all three differ"}});
  }
}

void Replica::outvote_primary() {
  const EpochId id = doubt_->id;
  world_.trace.add(host_.name(), "outvotes the primary", id.generation.value, id.epoch.value);
  ++world_.counters.outvoted;
  world_.oracle.on_outvoted(id, *guest_, witness_->guest);
  to_follow_.clear();
  while (!executing_.empty() && executing_.back().id > id) executing_.pop_back();
  if (!world_.is(Mutant::outvoted_end_believed))
    backup_->on_epoch_here(id, guest_->ended(), executing_.back().guest_paused);
  forget_votes();
  outvoted_primary_ = true;
  if (world_.is(Mutant::outvoted_unfenced)) {
    OwnershipRecord mine = world_.arbiter.truth();
    mine = {mine.generation.next(), self_, {self_}, false};
    return add({core::Promote{mine, backup_->primary(), false}});
  }
  add(backup_->fail_over(now()));
}

void Replica::outvote_self() {
  world_.trace.add(host_.name(), "is outvoted");
  if (!guest_->lost_bit()) world_.report(rule::kVote, "a backup that lost nothing is outvoted");
  ++world_.counters.outvoted;
  doubt_->replacing = true;
  if (world_.is(Mutant::outvoted_acks)) {
    for (Executing& executing : executing_)
      if (executing.id == doubt_->id) executing.done = true;
    acknowledge_executed();
  }
  const bool late = world_.votes.chance(kLateImagePermille);
  host_.later(late ? world_.votes.between(Millis{100}, Millis{400})
                   : world_.votes.between(Millis{1}, Millis{40}),
              [this, number = doubt_->number] {
                if (doubt_ && doubt_->number == number) be_replaced();
              });
}

void Replica::be_replaced() {
  const EpochId id = doubt_->id;
  const bool suspected = doubt_->suspected;
  follower_.reset();  // First: it unplugs itself from the guest.
  guest_->copy(world_.is(Mutant::replaced_by_old) ? witness_->before : witness_->guest);
  follower_ = std::make_unique<replay::Follower>(*guest_);
  flipped_ = false;
  ++world_.counters.replaced;
  world_.trace.add(host_.name(), "is replaced", id.generation.value, id.epoch.value);
  world_.oracle.on_executed(self_, id, *guest_);
  for (Executing& executing : executing_)
    if (executing.id == id) executing.done = true;
  doubt_.reset();
  witness_->decided.reset();
  if (world_.is(Mutant::replaced_forgets_rest)) to_follow_.clear();
  acknowledge_executed();
  if (!to_follow_.empty()) follow_later();
  if (suspected && backup_) add(backup_->on_suspected(now(), "silent", Nanos{0}));
}

// True: what the detector says has to wait for the vote.
bool Replica::heard_in_doubt(bool suspected, bool alive) {
  if (!doubt_ || world_.is(Mutant::doubt_claims)) return false;
  if (suspected) doubt_->suspected = true;
  if (alive) doubt_->suspected = false;
  return suspected;
}

}  // namespace libft::sim
