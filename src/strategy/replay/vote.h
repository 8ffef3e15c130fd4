// SPDX-License-Identifier: LGPL-2.1-or-later
// Voting among three replicas: a primary, the backup that executes the same, and a witness that
// executes it a third time. What two of them came to is right, as long as no two err at once; the
// third is the odd one. (Triple modular redundancy: Lyons and Vanderkulk, 1962.) Pure. One thread.
#pragma once

#include <map>
#include <optional>

#include "libft/types.h"

namespace libft::replay {

// What a replica came to at the end of an epoch.
struct Ballot {
  bool executed = true;    // False: it could not get there.
  std::uint64_t said = 0;  // As a Mark has it; likewise:
  std::optional<std::uint64_t> hash{};
};

// Who did not get to the end agrees with nobody.
bool agree(const Ballot& one, const Ballot& other);

enum class Voter { primary, backup, witness };

struct Ballots {
  std::optional<Ballot> primary, backup, witness;  // None: not yet.
};

enum class Verdict {
  open,         // A vote is needed that is not there yet.
  agreed,       // Primary and backup came to the same; the witness has not voted.
  unanimous,    // All three did.
  primary_odd,  // The other two came to something else, and both to the same; likewise:
  backup_odd,
  witness_odd,
  no_majority,  // All three differ.
};
Verdict judge(const Ballots& ballots);

// The epochs whose vote is not over, in order.
class Poll {
 public:
  // Each replica votes once an epoch, in any order. What is over after this vote is forgotten.
  Verdict vote(Time now, EpochId id, Voter voter, const Ballot& ballot);
  // Since when the witness has been waited for; nothing: it has voted on everything.
  std::optional<Time> waits_since() const;
  std::size_t size() const { return epochs_.size(); }
  void clear() { epochs_.clear(); }

 private:
  struct Epoch {
    Ballots ballots;
    Time since;
  };
  std::map<EpochId, Epoch> epochs_;
};

}  // namespace libft::replay
