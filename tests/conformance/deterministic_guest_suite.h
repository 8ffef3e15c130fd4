// SPDX-License-Identifier: LGPL-2.1-or-later
// What every DeterministicGuest must do, checked through the port alone. A driver instantiates it
// with a function that makes a DeterministicPair: a guest that runs, sends something now and then,
// and can be given input from outside; and a standby that can execute the same again.
#pragma once

#include <string>
#include <utility>

#include "conformance/guest_suite.h"
#include "libft/deterministic_guest.h"

namespace libft::test {

class DeterministicPair {
 public:
  virtual ~DeterministicPair() = default;
  virtual Guest& primary() = 0;  // Runs.
  virtual Guest& backup() = 0;   // Waits for load_state().
  virtual DeterministicGuest& facet(Guest& guest) = 0;

  // An input that the guest answers with output.
  virtual GuestInput question(unsigned number) = 0;
  // Brings such an input to a guest that runs, from outside, and returns when it was answered.
  virtual void ask_from_outside(Guest& guest, unsigned number) = 0;
};
using MakeDeterministicPair = std::function<std::unique_ptr<DeterministicPair>()>;

constexpr std::uint64_t kStretch = 100'000;  // Positions; long enough to answer a question.

struct Said {
  std::uint64_t position;
  std::string bytes;
  auto operator<=>(const Said&) const = default;
};

inline void listen(DeterministicGuest& guest, std::vector<Said>& said) {
  guest.set_output_sink([&said](Position at, const GuestOutput& output) {
    if (output.kind != GuestOutput::Kind::frame) return;
    said.push_back(
        {at.value, {reinterpret_cast<const char*>(output.bytes.data()), output.bytes.size()}});
  });
}

inline std::uint64_t hash_of(DeterministicGuest& guest) {
  const Result<std::uint64_t> hash = guest.state_hash();
  REQUIRE(hash);
  return *hash;
}

inline Position position_of(DeterministicGuest& guest) {
  const Result<Position> position = guest.position();
  REQUIRE(position);
  return *position;
}

// Both stand still at the same place, where the guest is ready for questions.
inline void make_equal(DeterministicPair& pair) {
  pair.ask_from_outside(pair.primary(), 0);
  check_ok(pair.primary().pause());
  copy_pages(pair.primary(), pair.backup(), all_pages(pair.primary()));
  check_ok(pair.backup().load_state(saved_state(pair.primary())));
  CHECK(hash_of(pair.facet(pair.primary())) == hash_of(pair.facet(pair.backup())));
}

inline void check_runs_to_an_exact_position(DeterministicPair& pair) {
  DeterministicGuest& guest = pair.facet(pair.primary());
  CHECK_FALSE(guest.position());  // It runs.
  CHECK_FALSE(guest.run_until(Position{1}).ok());
  check_ok(pair.primary().pause());
  Position here = position_of(guest);
  for (const std::uint64_t distance : {0ull, 1ull, 2ull, 777ull, 100'000ull}) {
    here.value += distance;
    check_ok(guest.run_until(here));
    CHECK(position_of(guest) == here);
  }
  CHECK(guest.run_until(Position{here.value - 1}).code() == Code::invalid);
  CHECK(position_of(guest) == here);
  check_ok(pair.primary().resume());
}

inline void check_same_inputs_same_state(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& one = pair.facet(pair.primary());
  DeterministicGuest& other = pair.facet(pair.backup());
  std::vector<Said> by_one, by_other;
  listen(one, by_one);
  listen(other, by_other);
  Position at = position_of(one);
  for (unsigned round = 0; round < 5; ++round) {
    at.value += kStretch + round;
    for (DeterministicGuest* guest : {&one, &other}) {
      check_ok(guest->run_until(at));
      check_ok(guest->deliver(pair.question(round)));
    }
    CHECK(hash_of(one) == hash_of(other));
  }
  at.value += kStretch;
  check_ok(one.run_until(at));
  for (Position step = position_of(other); step < at;
       step.value = std::min(step.value + 333, at.value))
    check_ok(other.run_until(step));  // In pieces.
  check_ok(other.run_until(at));
  CHECK(hash_of(one) == hash_of(other));
  CHECK(by_one == by_other);
  CHECK(by_one.size() >= 5);
  one.set_output_sink({});
  other.set_output_sink({});
}

inline void check_hash_sees_differences(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& one = pair.facet(pair.primary());
  DeterministicGuest& other = pair.facet(pair.backup());
  std::vector<Said> ignored;
  listen(one, ignored);
  listen(other, ignored);
  check_ok(one.deliver(pair.question(1)));
  check_ok(other.deliver(pair.question(2)));
  const Position at{position_of(one).value + kStretch};
  check_ok(one.run_until(at));
  CHECK(hash_of(one) != hash_of(other));  // Not as far,
  check_ok(other.run_until(at));
  CHECK(hash_of(one) != hash_of(other));  // nor the same input.
  one.set_output_sink({});
  other.set_output_sink({});
}

// The heart of it: what a guest did that nobody held back is done again from its log.
inline void check_live_inputs_can_be_replayed(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& live = pair.facet(pair.primary());
  DeterministicGuest& again = pair.facet(pair.backup());
  std::mutex mutex;
  std::vector<std::pair<Position, GuestInput>> log;
  live.set_input_sink([&](Position at, const GuestInput& input) {
    const std::lock_guard lock(mutex);
    log.emplace_back(at, input);
  });
  check_ok(pair.primary().resume());
  for (unsigned i = 0; i < 20; ++i) pair.ask_from_outside(pair.primary(), i);
  check_ok(pair.primary().pause());
  const std::lock_guard lock(mutex);
  CHECK(log.size() >= 20);
  std::vector<Said> said;
  listen(again, said);
  for (const auto& [at, input] : log) {
    check_ok(again.run_until(at));
    check_ok(again.deliver(input));
  }
  check_ok(again.run_until(position_of(live)));
  CHECK(hash_of(again) == hash_of(live));
  CHECK(said.size() >= 20);
  live.set_input_sink({});
  again.set_output_sink({});
}

// What a session does: the log is cut while the guest runs, and each piece leads to the state that
// the guest had at its end.
inline void check_log_can_be_cut_while_it_runs(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& live = pair.facet(pair.primary());
  DeterministicGuest& again = pair.facet(pair.backup());
  struct Piece {
    std::vector<std::pair<Position, GuestInput>> inputs;
    Mark end;
  };
  std::mutex mutex;
  std::vector<Piece> pieces;
  Piece piece;
  live.set_input_sink([&](Position at, const GuestInput& input) {
    const std::lock_guard lock(mutex);
    piece.inputs.emplace_back(at, input);
  });
  check_ok(pair.primary().resume());
  for (unsigned i = 0; i < 20; ++i) {
    pair.ask_from_outside(pair.primary(), i);
    check_ok(live.mark(i % 2 == 0 ? WithHash::yes : WithHash::no, [&](const Mark& here) {
      const std::lock_guard lock(mutex);
      piece.end = here;
      pieces.push_back(std::exchange(piece, {}));
    }));
  }
  check_ok(pair.primary().pause());
  live.set_input_sink({});
  std::size_t inputs = 0;
  std::vector<Said> ignored;
  listen(again, ignored);
  for (const Piece& done : pieces) {
    inputs += done.inputs.size();
    for (const auto& [at, input] : done.inputs) {
      CHECK(at <= done.end.at);
      check_ok(again.run_until(at));
      check_ok(again.deliver(input));
    }
    check_ok(again.run_until(done.end.at));
    if (done.end.hash) CHECK(hash_of(again) == *done.end.hash);
  }
  CHECK(inputs >= 20);
  again.set_output_sink({});
}

// A guest that is slowed does less, and all of it as before.
inline void check_pace_changes_nothing_else(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& guest = pair.facet(pair.primary());
  guest.set_pace(5);
  check_ok(pair.primary().resume());
  for (unsigned i = 0; i < 3; ++i) pair.ask_from_outside(pair.primary(), i);
  guest.set_pace(100);
  pair.ask_from_outside(pair.primary(), 3);
  check_ok(pair.primary().pause());
}

// A follower can take over where it stands.
inline void check_follower_goes_live(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& follower = pair.facet(pair.backup());
  check_ok(follower.run_until(Position{position_of(follower).value + kStretch}));
  pair.primary().destroy();
  check_ok(pair.backup().activate());
  pair.ask_from_outside(pair.backup(), 1);
  check_ok(pair.backup().pause());
  CHECK(position_of(follower).value > 0);
}

// What somebody needs who wants to know why two executions differ.
inline void check_a_copy_executes_the_same(DeterministicPair& pair) {
  make_equal(pair);
  DeterministicGuest& one = pair.facet(pair.primary());
  check_ok(one.mark(WithHash::yes, [](const Mark&) {}));
  const Result<GuestCopy> copy = one.make_copy();
  REQUIRE(copy);
  copy_pages(pair.primary(), *copy->guest, all_pages(pair.primary()));
  check_ok(copy->guest->load_state(saved_state(pair.primary())));
  const Position until{position_of(one).value + kStretch};
  std::vector<Said> by_one, by_copy;
  listen(one, by_one);
  listen(*copy->exact, by_copy);
  for (DeterministicGuest* guest : {&one, copy->exact}) {
    check_ok(guest->deliver(pair.question(1)));
    check_ok(guest->run_until(until));
  }
  CHECK(hash_of(one) == hash_of(*copy->exact));
  CHECK(by_one == by_copy);
  CHECK_FALSE(by_copy.empty());
  one.set_output_sink({});
}

inline void deterministic_guest_suite(const MakeDeterministicPair& make) {
  const auto with_pair = [&](auto rule) {
    const std::unique_ptr<DeterministicPair> pair = make();
    REQUIRE(pair != nullptr);
    rule(*pair);
  };
  SUBCASE("it runs to an exact position") { with_pair(check_runs_to_an_exact_position); }
  SUBCASE("the same inputs lead to the same state") { with_pair(check_same_inputs_same_state); }
  SUBCASE("the hash sees differences") { with_pair(check_hash_sees_differences); }
  SUBCASE("live inputs can be replayed") { with_pair(check_live_inputs_can_be_replayed); }
  SUBCASE("its log can be cut while it runs") { with_pair(check_log_can_be_cut_while_it_runs); }
  SUBCASE("the pace changes nothing else") { with_pair(check_pace_changes_nothing_else); }
  SUBCASE("a copy executes the same") { with_pair(check_a_copy_executes_the_same); }
  SUBCASE("a follower goes live") { with_pair(check_follower_goes_live); }
}

}  // namespace libft::test
