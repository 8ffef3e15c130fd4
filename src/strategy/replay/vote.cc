// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/vote.h"

#include <algorithm>

namespace libft::replay {
namespace {

bool is_over(Verdict verdict) { return verdict != Verdict::open && verdict != Verdict::agreed; }

}  // namespace

bool agree(const Ballot& one, const Ballot& other) {
  return one.executed && other.executed && one.said == other.said && one.hash == other.hash;
}

Verdict judge(const Ballots& ballots) {
  const auto& [primary, backup, witness] = ballots;
  if (!primary || !backup) return Verdict::open;
  const bool pair_agrees = agree(*primary, *backup);
  if (!witness) return pair_agrees ? Verdict::agreed : Verdict::open;
  if (pair_agrees) return agree(*primary, *witness) ? Verdict::unanimous : Verdict::witness_odd;
  if (agree(*primary, *witness)) return Verdict::backup_odd;
  if (agree(*backup, *witness)) return Verdict::primary_odd;
  return Verdict::no_majority;
}

Verdict Poll::vote(Time now, EpochId id, Voter voter, const Ballot& ballot) {
  const auto epoch = epochs_.try_emplace(id, Epoch{{}, now}).first;
  Ballots& ballots = epoch->second.ballots;
  switch (voter) {
    case Voter::primary: ballots.primary = ballot; break;
    case Voter::backup: ballots.backup = ballot; break;
    case Voter::witness: ballots.witness = ballot; break;
  }
  const Verdict verdict = judge(ballots);
  if (is_over(verdict)) epochs_.erase(epoch);
  return verdict;
}

std::optional<Time> Poll::waits_since() const {
  const auto waiting = std::ranges::find_if(
      epochs_, [](const auto& epoch) { return !epoch.second.ballots.witness.has_value(); });
  if (waiting == epochs_.end()) return std::nullopt;
  return waiting->second.since;
}

}  // namespace libft::replay
