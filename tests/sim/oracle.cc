// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace libft::sim {

// --- lives
// ----------------------------------------------------------------------------------------

void Oracle::on_birth(const Incarnation& who, bool owner) {
  Life& it = life(who);
  const Generation attempted = it.attempted;
  it = {};
  it.alive = true;
  it.owner = owner;
  it.attempted = attempted;
  check_listed();
}

void Oracle::on_death(const Incarnation& who) { life(who).alive = false; }

// Joining order: whoever is listed holds the whole image (or is dead, and then nobody can use it).
void Oracle::check_listed() {
  for (const Incarnation& listed : truth_.in_sync) {
    const auto found = lives_.find(listed.id);
    if (found == lives_.end() || !found->second.alive || found->second.owner) continue;
    if (!found->second.complete)
      fail(rule::kOutputCommit,
           fmt::format("in_sync lists {}, which holds no complete image", to_string(listed)));
  }
}

// --- the arbiter
// ----------------------------------------------------------------------------------

void Oracle::on_landed(const OwnershipRecord&) { check_listed(); }

void Oracle::on_swap_asked(const Incarnation& who, const OwnershipRecord& to) {
  life(who).attempted = to.generation;
}

void Oracle::on_end_claimed(const Incarnation& who, EpochId newest) {
  const auto found = moments_.find(newest);
  if (found != moments_.end() && !found->second.ended)
    fail(rule::kOwnersWill,
         fmt::format("{} says that the guest ended, and it lives", to_string(who)));
}

// Definite is only its own swap, or another's in its place.
void Oracle::on_definite(const Incarnation& who, const OwnershipRecord& record) {
  Life& it = life(who);
  if (record.generation >= it.attempted) it.attempted = {};
}

// --- epochs
// ---------------------------------------------------------------------------------------

void Oracle::on_captured(EpochId id, const Moment& moment, bool lockstep) {
  moments_[id] = moment;
  lockstep_.erase(id.epoch);
  if (lockstep) lockstep_.insert(id.epoch);
}

void Oracle::on_complete(const Incarnation& who, EpochId id) {
  Life& it = life(who);
  if (!it.complete || *it.complete < id) it.complete = id;
}

void Oracle::on_applied(const Incarnation& who, EpochId id, std::uint64_t hash) {
  const auto found = moments_.find(id);
  if (found == moments_.end())
    return fail(rule::kNothingPartial, fmt::format("{} applied epoch {}, which nobody captured",
                                                   to_string(who), to_string(id)));
  life(who).executed = id;  // It has what executing would come to.
  life(who).kept.clear();
  if (found->second.hash != hash)
    fail(rule::kNothingPartial,
         fmt::format("{} applied epoch {}: its memory and state are not the primary's",
                     to_string(who), to_string(id)));
}

void Oracle::on_ack_sent(const Incarnation& who, EpochId id) {
  const Life& it = life(who);
  if (it.attempted.value != 0)
    return fail(rule::kOutputCommit,
                fmt::format("{} acknowledges {} after its swap to generation {}", to_string(who),
                            to_string(id), it.attempted.value));
  // The acknowledgement names the generation known now; the epoch may be of an older one.
  if (!it.complete || it.complete->epoch < id.epoch)
    fail(rule::kOutputCommit,
         fmt::format("{} acknowledges {}, which it does not hold", to_string(who), to_string(id)));
}

void Oracle::on_ack_heard(const Incarnation& primary, const Incarnation& backup, EpochId id) {
  Life& it = life(backup);
  if (it.heard_by != primary.id) it.acknowledged = {};
  it.heard_by = primary.id;
  it.acknowledged = std::max(it.acknowledged, id);
}

void Oracle::on_executed(const Incarnation& who, EpochId id, const SimGuest& guest) {
  const auto waits = [id](const Kept& each) { return each.id == id; };
  if (std::ranges::any_of(life(who).kept, waits))
    fail(rule::kDelay,
         fmt::format("{} executes {}, which is to wait", to_string(who), to_string(id)));
  const Moment& there = moments_[id];
  if (guest.chain() == there.chain && guest.counter() == there.counter) life(who).executed = id;
}

void Oracle::on_outvoted(EpochId id, const SimGuest& guest, const SimGuest& witness) {
  if (guest.lost_bit() && witness.lost_bit()) {
    majority_erred_ = true;
    return;
  }
  Moment& there = moments_[id];
  if (!there.spoilt) fail(rule::kVote, "a primary that lost nothing is outvoted");
  there.hash = guest.hash();
  there.counter = guest.counter();
  there.chain = guest.chain();
  there.ended = guest.ended();
}

bool Oracle::is_spoilt(EpochId id) const {
  const auto found = moments_.find(id);
  return found != moments_.end() && found->second.spoilt;
}

// --- executed late on purpose
// ------------------------------------------------------------------------------

std::size_t Oracle::Life::kept_bytes() const {
  std::size_t sum = 0;
  for (const Kept& each : kept) sum += each.bytes;
  return sum;
}

void Oracle::on_kept(const Incarnation& who, EpochId id, std::size_t bytes, Time due) {
  life(who).kept.push_back({id, bytes, due});
}

void Oracle::on_due(const Incarnation& who, EpochId id, Time now, std::size_t bytes_max) {
  Life& it = life(who);
  if (it.kept.empty() || it.kept.front().id != id)
    return fail(rule::kReplay, fmt::format("{} is to execute {}, which is not the next",
                                           to_string(who), to_string(id)));
  if (it.kept.front().due > now && it.kept_bytes() <= bytes_max)
    fail(rule::kDelay,
         fmt::format("{} is to execute {} before its time", to_string(who), to_string(id)));
  it.kept.pop_front();
}

// A follower that is full is waited for with one log at hand.
void Oracle::check_kept(const Incarnation& who, std::size_t bytes_max, bool follower_full) {
  const Life& it = life(who);
  const std::size_t at_hand = follower_full && !it.kept.empty() ? it.kept.back().bytes : 0;
  if (it.kept_bytes() > bytes_max + at_hand)
    fail(rule::kBounded,
         fmt::format("{} bytes of log wait, {} allowed", it.kept_bytes(), bytes_max));
}

// --- what the world sees
// --------------------------------------------------------------------------

void Oracle::on_release(const Incarnation& who, EpochId through, const OwnershipRecord& known,
                        bool stood_still) {
  if (life(who).attempted.value != 0)
    fail(rule::kOutputCommit, fmt::format("{} releases {} while its swap is unanswered",
                                          to_string(who), to_string(through)));
  if (stood_still)
    fail(rule::kOneOwner, fmt::format("{} stood still and releases {} without asking",
                                      to_string(who), to_string(through)));
  for (const Incarnation& listed : known.in_sync) {
    if (listed == who) continue;
    const Life& it = life(listed);
    if (it.heard_by != who.id || it.acknowledged.generation != known.generation ||
        it.acknowledged.epoch < through.epoch)
      fail(rule::kOutputCommit,
           fmt::format("{} releases {}, which {} has not acknowledged under it", to_string(who),
                       to_string(through), to_string(listed)));
  }
  const auto behind = lockstep_.upper_bound(through.epoch);
  if (behind != lockstep_.begin())
    for (const Incarnation& listed : known.in_sync)
      if (listed != who &&
          (!life(listed).executed || life(listed).executed->epoch < *std::prev(behind)))
        fail(rule::kLockstep, fmt::format("{} releases {}, and {} has not produced it",
                                          to_string(who), to_string(through), to_string(listed)));
  if (released_.epoch < through.epoch) released_ = through;
}

void Oracle::on_open(const Incarnation& who) {
  if (life(who).attempted.value != 0)
    fail(rule::kOneOwner,
         fmt::format("{} opens its gate while its swap is unanswered", to_string(who)));
  if (truth_.owner != who)
    fail(rule::kOneOwner, fmt::format("{} opens its gate, and the owner is {}", to_string(who),
                                      to_string(truth_.owner)));
  else if (truth_.in_sync.size() != 1)
    fail(rule::kOutputCommit,
         fmt::format("{} opens its gate while the record lists a backup", to_string(who)));
}

// Whether the state from which `who` runs, or would run, knows everything of that epoch.
bool Oracle::covers(const Incarnation& who, EpochId sealed) const {
  const auto found = lives_.find(who.id);
  if (found == lives_.end()) return false;
  const auto& it = found->second;
  const auto& from = it.promoted_from ? it.promoted_from : it.complete;
  return from && *from >= sealed;
}

void Oracle::on_sent(const Packet& packet) { before_[packet.chain] = packet.before; }

bool Oracle::same_history(std::uint64_t chain_a, std::uint64_t counter_a, std::uint64_t chain_b,
                          std::uint64_t counter_b) const {
  if (counter_a < counter_b) return same_history(chain_b, counter_b, chain_a, counter_a);
  for (; counter_a > counter_b; --counter_a) {
    const auto found = before_.find(chain_a);
    if (found == before_.end()) return false;
    chain_a = found->second;
  }
  return chain_a == chain_b;
}

void Oracle::on_frame(const Incarnation& who, std::optional<EpochId> sealed) {
  if (!sealed) {
    on_open(who);
  } else if (truth_.owner == who) {
    for (const Incarnation& listed : truth_.in_sync)
      if (listed != who && !covers(listed, *sealed))
        fail(rule::kOutputCommit, fmt::format("output of epoch {} is out and {} does not hold it",
                                              to_string(*sealed), to_string(listed)));
  } else if (!covers(truth_.owner, *sealed)) {
    fail(rule::kOneOwner,
         fmt::format("output of epoch {} of {} is out, and the owner {} knows nothing of it",
                     to_string(*sealed), to_string(who), to_string(truth_.owner)));
  }
}

void Oracle::on_compared(const Incarnation& who, std::size_t sealed) {
  if (sealed > 0)
    fail(rule::kOutputCommit,
         fmt::format("{} lets a frame out before what its checkpoint covers", to_string(who)));
  if (life(who).attempted.value != 0)
    fail(rule::kOutputCommit,
         fmt::format("{} lets a frame out by comparison while its swap is unanswered",
                     to_string(who)));
}

void Oracle::on_packet(const Incarnation& who, const Packet& packet,
                       std::optional<EpochId> sealed) {
  ++packets_seen_;
  on_frame(who, sealed);
  if (sealed && packet.counter > moments_[*sealed].counter)
    fail(rule::kOutputCommit,
         fmt::format("output {} was sealed into epoch {}, which was captured before",
                     packet.counter, to_string(*sealed)));

  const auto [seen, fresh] = seen_.emplace(packet.counter, packet.random);
  if (!fresh && seen->second != packet.random)
    fail(rule::kPrefix, fmt::format("counter {} was seen with two values", packet.counter));
  if (!same_history(packet.chain, packet.counter, tip_chain_, tip_counter_))
    fail(rule::kPrefix,
         fmt::format("output {} contradicts output {}", packet.counter, tip_counter_));
  if (packet.counter > tip_counter_) tip_counter_ = packet.counter, tip_chain_ = packet.chain;
}

// --- who runs
// -------------------------------------------------------------------------------------

void Oracle::on_promote(const Incarnation& who, const OwnershipRecord& record, EpochId newest,
                        const SimGuest& guest, bool runs, bool follows) {
  Life& it = life(who);
  it.owner = true;
  it.promoted_from = newest;
  if (guest.lost_bit())
    fail(rule::kVote, fmt::format("{} is promoted, and lost a bit before", to_string(who)));
  if (record != truth_ || record.owner != who)
    fail(rule::kOneOwner, fmt::format("{} promotes itself, and the record is {}", to_string(who),
                                      to_string(truth_)));
  if (!owned_.insert(record.generation).second)
    fail(rule::kOneOwner, fmt::format("generation {} has two owners", record.generation.value));
  if (newest.epoch < released_.epoch)
    fail(rule::kPrefix, fmt::format("promoted from {}, and {} was released", to_string(newest),
                                    to_string(released_)));
  const auto found = moments_.find(newest);
  // Who ran on from it is itself more than that epoch.
  if (found == moments_.end() || (!follows && found->second.hash != guest.hash()))
    fail(rule::kPrefix, fmt::format("{} is promoted into a state that is not epoch {}",
                                    to_string(who), to_string(newest)));
  if (guest.counter() < tip_counter_ ||
      !same_history(guest.chain(), guest.counter(), tip_chain_, tip_counter_))
    fail(rule::kPrefix, fmt::format("the promoted guest does not know output {}", tip_counter_));
  if (found == moments_.end()) return;
  if (found->second.ended || truth_.ended)
    fail(rule::kOwnersWill, "a guest that had ended is promoted");
  if (found->second.paused && runs)
    fail(rule::kOwnersWill, "a guest that its owner had paused is resumed");
}

void Oracle::on_follows(const Incarnation& who, EpochId id, std::uint64_t hash) {
  const auto found = moments_.find(id);
  if (found == moments_.end() || found->second.hash != hash)
    return fail(rule::kNothingPartial, fmt::format("{} runs from checkpoint {}, which it is not",
                                                   to_string(who), to_string(id)));
  if (found->second.paused)
    fail(rule::kOwnersWill,
         fmt::format("{} runs a guest that its owner had paused", to_string(who)));
}

void Oracle::on_guest_step(const Incarnation& who, const SimGuest& guest, bool owner_resumed) {
  if (guest.ended() || (truth_.ended && truth_.owner == who))
    fail(rule::kOwnersWill, fmt::format("{} runs a guest that ended", to_string(who)));
  if (!owner_resumed)
    fail(rule::kOwnersWill, fmt::format("{} runs a paused guest", to_string(who)));
}

void Oracle::check_bounds(std::uint32_t inflight, std::uint32_t inflight_max, std::size_t held,
                          std::uint32_t held_max, std::size_t queued) {
  if (inflight > inflight_max)
    fail(rule::kBounded, fmt::format("{} epochs in flight, {} allowed", inflight, inflight_max));
  if (held > held_max)
    fail(rule::kBounded, fmt::format("{} epochs held, the gate can hold {}", held, held_max));
  if (queued > (1u << 20)) fail(rule::kBounded, fmt::format("{} bytes queued to send", queued));
}

bool Oracle::guest_is_lost() const {
  for (const Incarnation& listed : truth_.in_sync) {
    const auto found = lives_.find(listed.id);
    if (found == lives_.end() || !found->second.alive) continue;
    if (found->second.owner || found->second.complete) return false;
  }
  return true;
}

}  // namespace libft::sim
