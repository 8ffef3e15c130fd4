// SPDX-License-Identifier: LGPL-2.1-or-later
// Harts that execute at once: whatever they did is done again from what was recorded.
#include <doctest/doctest.h>

#include <random>

#include "guest/machine/machine.h"
#include "guest_image.h"

using namespace libft;
using namespace libft::machine;

namespace {

MachineOptions at_once(const std::string& guest, unsigned harts) {
  MachineOptions options = test::bare_metal(guest, harts);
  options.smp = Smp::threads;
  return options;
}

struct Box {
  std::string console;
  std::vector<std::pair<Position, GuestInput>> log;
  std::unique_ptr<Machine> machine;

  explicit Box(const MachineOptions& options, bool empty = false) {
    MachineSinks sinks;
    sinks.console = [this](auto bytes) {
      for (const std::byte byte : bytes) console += static_cast<char>(byte);
    };
    auto made = empty ? Machine::create_empty(options, sinks) : Machine::create(options, sinks);
    REQUIRE(made);
    machine = std::move(*made);
  }
  void live(std::uint64_t until) {
    machine->run_live(Position{until}, [this](Position at, const GuestInput& input) {
      log.emplace_back(at, input);
    });
  }
  bool runs() const { return machine->ended() == End::running && !machine->diverged(); }
  void do_again(const std::vector<std::pair<Position, GuestInput>>& what, Position until) {
    for (const auto& [at, input] : what) {
      machine->run(at, WhenIdle::skip);
      REQUIRE_FALSE(machine->diverged());
      REQUIRE(machine->position() == at);
      REQUIRE(machine->deliver(input).ok());
    }
    machine->run(until, WhenIdle::skip);
    CHECK_FALSE(machine->diverged());
  }
};

std::size_t transfers(const Box& box) {
  std::size_t sum = 0;
  for (const auto& [at, input] : box.log)
    sum += decode_round(input.bytes, kHartsMax, 1 << 20)->transfers.size();
  return sum;
}

Round some_round() {
  Round round;
  round.anew = true;
  round.parts[0] = {true, false, 1000};
  round.parts[2] = {true, true, 777};
  round.transfers.push_back({5, true, {2, 10}, {{0, 500}}});
  round.transfers.push_back({5, false, {0, 600}, {{2, 12}}});
  round.transfers.push_back({9, true, {2, 777}, {{0, 600}}});
  return round;
}

}  // namespace

TEST_CASE("a race of harts at once is run again to the same state") {
  for (const unsigned harts : {2u, 3u, 4u}) {
    Box one(at_once("race", harts)), again(at_once("race", harts));
    one.live(harts * 500'001);
    CHECK(transfers(one) > 4);
    again.do_again(one.log, one.machine->position());
    CHECK(again.machine->state_hash() == one.machine->state_hash());
  }
}

TEST_CASE("the state is the same at every round, not only in the end") {
  Box one(at_once("race", 2)), again(at_once("race", 2));
  for (int i = 0; i < 10; ++i) {
    const std::size_t before = one.log.size();
    one.live(one.machine->position().value + 50'001);
    again.do_again({one.log.begin() + static_cast<std::ptrdiff_t>(before), one.log.end()},
                   one.machine->position());
    CHECK(again.machine->state_hash() == one.machine->state_hash());
  }
}

TEST_CASE("one who comes later goes on from a state, and so does who was there before") {
  const MachineOptions options = at_once("race", 4);
  Box one(options), before(options), later(options, true);
  one.live(500'000);
  std::vector<std::byte> state;
  one.machine->save(state);
  std::ranges::copy(one.machine->memory().bytes(), later.machine->memory().bytes().begin());
  REQUIRE(later.machine->load(state).ok());
  before.do_again(one.log, one.machine->position());
  one.log.clear();
  one.live(1'000'000);
  for (Box* box : {&before, &later}) {
    box->do_again(one.log, one.machine->position());
    CHECK(box->machine->state_hash() == one.machine->state_hash());
  }
}

TEST_CASE("written pages are known, whoever wrote them") {
  Box box(at_once("race", 2));
  PageSet written;
  box.machine->memory().take_written(written);
  box.live(300'000);
  std::vector<std::byte> before(box.machine->memory().bytes().begin(),
                                box.machine->memory().bytes().end());
  box.machine->memory().take_written(written);
  CHECK_FALSE(written.empty());
  box.live(600'000);
  box.machine->memory().take_written(written);
  const auto now = box.machine->memory().bytes();
  for (std::uint64_t page = 0; page < now.size() / kPageBytes; ++page) {
    const auto old = std::span(before).subspan(page * kPageBytes, kPageBytes);
    const bool same = std::ranges::equal(old, now.subspan(page * kPageBytes, kPageBytes));
    const bool known = written.contains(PageNo{0x80000 + page});
    CHECK((same || known));
  }
}

// Some changes do not matter: a hart may wait for another a little longer than it must.
TEST_CASE("a log that is not this machine's is noticed, and nobody waits for ever") {
  Box one(at_once("race", 2));
  one.live(400'000);
  std::mt19937 random(1);
  unsigned noticed = 0;
  for (int i = 0; i < 20; ++i) {
    Box again(at_once("race", 2));
    const auto wrong = random() % one.log.size();
    bool same = true;
    for (std::size_t n = 0; n < one.log.size() && same && again.runs(); ++n) {
      const auto& [at, input] = one.log[n];
      again.machine->run(at, WhenIdle::skip);
      same = again.machine->position() == at && !again.machine->diverged();
      GuestInput changed = input;
      if (n == wrong) changed.bytes[random() % changed.bytes.size()] ^= std::byte{4};
      same = same && again.machine->deliver(changed).ok();
    }
    if (same) again.machine->run(one.machine->position(), WhenIdle::skip);
    if (!same || again.machine->state_hash() != one.machine->state_hash()) ++noticed;
  }
  CHECK(noticed >= 8);
}

TEST_CASE("a round is the same after its bytes") {
  const auto round = decode_round(encode(some_round()), 3, 10);
  REQUIRE(round);
  CHECK(*round == some_round());
}

TEST_CASE("bytes that are no round, or one that could not end, are refused") {
  const std::vector<std::byte> bytes = encode(some_round());
  CHECK_FALSE(decode_round(bytes, 2, 10));  // There is no third hart,
  CHECK_FALSE(decode_round(bytes, 3, 9));   // and no tenth page.
  CHECK_FALSE(decode_round(std::span(bytes).first(bytes.size() - 1), 3, 10));
  const auto refused = [](auto change) {
    Round round = some_round();
    change(round);
    return !decode_round(encode(round), 3, 10);
  };
  CHECK(refused([](Round& r) { r.transfers[0].after[0].steps = 1001; }));
  CHECK(refused([](Round& r) { r.transfers[1].to.steps = 499; }));
  CHECK(refused([](Round& r) { r.transfers[0].after[0].hart = 2; }));
  CHECK(refused([](Round& r) { r.transfers[0].to.hart = 1; }));  // It took no part.
  CHECK(refused([](Round& r) { r.parts[0].steps = kRoundStepsMax + 1; }));
  std::mt19937 random(7);
  for (int i = 0; i < 10000; ++i) {
    std::vector<std::byte> noise(random() % 40);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
    [[maybe_unused]] const auto any = decode_round(noise, 4, 100);
  }
}
