// SPDX-License-Identifier: LGPL-2.1-or-later
// Who is outvoted, in every combination of three replicas, and in every order of their votes.
#include "strategy/replay/vote.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

using namespace libft;
using namespace libft::replay;

namespace {

constexpr Ballot kRight{true, 11, 22}, kWrong{true, 12, 22}, kOther{true, 13, 22},
    kLost{.executed = false};

EpochId epoch(std::uint64_t number) { return {Generation{1}, Epoch{number}}; }
Time at(int ms) { return Time{Millis{ms}}; }

}  // namespace

TEST_CASE("two agree when output and hash are the same, and never with who did not get there") {
  CHECK(agree(kRight, kRight));
  CHECK_FALSE(agree(kRight, kWrong));
  CHECK_FALSE(agree({true, 11, 22}, {true, 11, 23}));
  CHECK_FALSE(agree({true, 11, 22}, {true, 11, std::nullopt}));
  CHECK(agree({true, 11, std::nullopt}, {true, 11, std::nullopt}));
  CHECK_FALSE(agree(kLost, kLost));
}

TEST_CASE("the odd one of three is the one that two others contradict") {
  struct Case {
    Ballot primary, backup, witness;
    Verdict verdict;
  };
  for (const Case& c : {Case{kRight, kRight, kRight, Verdict::unanimous},
                        {kWrong, kRight, kRight, Verdict::primary_odd},
                        {kRight, kWrong, kRight, Verdict::backup_odd},
                        {kRight, kRight, kWrong, Verdict::witness_odd},
                        {kRight, kLost, kRight, Verdict::backup_odd},
                        {kRight, kRight, kLost, Verdict::witness_odd},
                        {kRight, kWrong, kOther, Verdict::no_majority},
                        {kRight, kWrong, kLost, Verdict::no_majority},
                        {kRight, kLost, kLost, Verdict::no_majority},
                        // Two that err alike have the majority.
                        {kRight, kWrong, kWrong, Verdict::primary_odd}}) {
    CHECK(judge({c.primary, c.backup, c.witness}) == c.verdict);
    // Whatever the order in which they come, nothing is said before it is known.
    std::array<Voter, 3> order{Voter::primary, Voter::backup, Voter::witness};
    do {
      Poll poll;
      Ballots so_far;
      Verdict last = Verdict::open;
      for (const Voter voter : order) {
        const Ballot& ballot = voter == Voter::primary  ? c.primary
                               : voter == Voter::backup ? c.backup
                                                        : c.witness;
        (voter == Voter::primary  ? so_far.primary
         : voter == Voter::backup ? so_far.backup
                                  : so_far.witness) = ballot;
        last = poll.vote(at(0), epoch(1), voter, ballot);
        CHECK(last == judge(so_far));
      }
      CHECK(last == c.verdict);
      CHECK_FALSE(poll.waits_since());  // It is over, and forgotten.
    } while (std::ranges::next_permutation(order).found);
  }
}

TEST_CASE("a vote that is missing decides nothing, unless it is not needed") {
  CHECK(judge({}) == Verdict::open);
  CHECK(judge({kRight, {}, kWrong}) == Verdict::open);
  CHECK(judge({{}, kRight, kWrong}) == Verdict::open);
  CHECK(judge({kRight, kRight, {}}) == Verdict::agreed);  // Nobody waits for the witness.
  CHECK(judge({kRight, kWrong, {}}) == Verdict::open);
}

TEST_CASE("a late witness shows by how long it has been waited for, and decides when it votes") {
  Poll poll;
  CHECK(poll.vote(at(10), epoch(1), Voter::primary, kRight) == Verdict::open);
  CHECK(poll.vote(at(11), epoch(1), Voter::backup, kRight) == Verdict::agreed);
  CHECK(poll.vote(at(20), epoch(2), Voter::primary, kRight) == Verdict::open);
  CHECK(poll.vote(at(21), epoch(2), Voter::backup, kWrong) == Verdict::open);
  CHECK(poll.waits_since() == at(10));
  CHECK(poll.vote(at(500), epoch(1), Voter::witness, kRight) == Verdict::unanimous);
  CHECK(poll.waits_since() == at(20));
  CHECK(poll.size() == 1);
  CHECK(poll.vote(at(501), epoch(2), Voter::witness, kRight) == Verdict::backup_odd);
  CHECK_FALSE(poll.waits_since());
  // One that is ahead is not waited for.
  CHECK(poll.vote(at(600), epoch(3), Voter::witness, kRight) == Verdict::open);
  CHECK_FALSE(poll.waits_since());
  poll.vote(at(601), epoch(4), Voter::primary, kRight);
  poll.clear();
  CHECK_FALSE(poll.waits_since());
}
