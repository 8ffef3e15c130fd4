// SPDX-License-Identifier: LGPL-2.1-or-later
// A machine as a whole: its execution is a function of its inputs and their positions.
#include "guest/machine/machine.h"

#include <doctest/doctest.h>

#include "guest_image.h"
#include "udp_frames.h"

using namespace libft;
using namespace libft::machine;

namespace {

struct Observed {
  std::string console;
  std::vector<std::string> answers;
};

struct Box {
  Observed seen;
  std::unique_ptr<Machine> machine;

  explicit Box(const MachineOptions& options, bool empty = false) {
    MachineSinks sinks;
    sinks.console = [this](auto bytes) {
      for (const std::byte byte : bytes) seen.console += static_cast<char>(byte);
    };
    sinks.frame = [this](auto frame) { seen.answers.push_back(test::kv_answer(frame)); };
    auto made = empty ? Machine::create_empty(options, sinks) : Machine::create(options, sinks);
    REQUIRE(made);
    machine = std::move(*made);
  }
  void run_to(std::uint64_t position) { machine->run(Position{position}, WhenIdle::skip); }
  void ask(std::string_view text) {
    CHECK(machine->deliver({GuestInput::Kind::frame, test::kv_request(text)}).ok());
  }
};

}  // namespace

TEST_CASE("slices of any size lead to the same state, with several harts too") {
  constexpr std::uint64_t kUntil = 300000;
  for (const unsigned harts : {1u, 3u}) {
    Box whole(test::bare_metal("race", harts));
    whole.run_to(kUntil);
    const std::uint64_t hash = whole.machine->state_hash();
    for (const std::uint64_t slice : {1ull, 777ull, 5000ull, 99999ull}) {
      Box sliced(test::bare_metal("race", harts));
      const std::uint64_t until = slice == 1 ? 3000 : kUntil;
      for (std::uint64_t at = 0; at < until;) sliced.run_to(at = std::min(at + slice, until));
      if (slice == 1) sliced.run_to(kUntil);
      CHECK(sliced.machine->position().value == kUntil);
      CHECK(sliced.machine->state_hash() == hash);
    }
  }
}

TEST_CASE("a race comes out the same each time, and differently with another quantum") {
  const auto outcome = [](unsigned harts, std::uint64_t quantum) {
    MachineOptions options = test::bare_metal("race", harts);
    options.quantum = quantum;
    Box box(options);
    box.run_to(100'000'000);
    CHECK(box.machine->ended() == End::shut_down);
    return box.seen.console;
  };
  CHECK(outcome(1, 5000).starts_with("counter 0000000000030d40"));  // 200000: nothing is lost.
  const std::string once = outcome(4, 5000);
  CHECK(once == outcome(4, 5000));
  CHECK(once != outcome(4, 4999));
  CHECK(once != outcome(3, 5000));
}

TEST_CASE("a machine goes on in another one, from any position") {
  for (const std::uint64_t at : {1000ull, 123457ull, 1000003ull}) {
    Box primary(test::bare_metal("bank")), backup(test::bare_metal("bank"), true);
    primary.run_to(at);
    std::vector<std::byte> state;
    primary.machine->save(state);
    std::ranges::copy(primary.machine->memory().bytes(), backup.machine->memory().bytes().begin());
    REQUIRE(backup.machine->load(state).ok());
    CHECK(backup.machine->state_hash() == primary.machine->state_hash());
    primary.run_to(at + 500000);
    backup.run_to(at + 500000);
    CHECK(backup.machine->state_hash() == primary.machine->state_hash());
  }
}

TEST_CASE(
    "requests are answered, and the same requests at the same positions leave the same state") {
  const auto history = [](Box& box, std::uint64_t third_at) {
    box.run_to(100000);
    CHECK(box.machine->idle());
    box.ask("S colour blue");
    box.run_to(200000);
    box.ask("G colour");
    box.run_to(third_at);
    box.ask("G nothing");
    box.run_to(400000);
    return box.machine->state_hash();
  };
  Box one(test::bare_metal("kv")), same(test::bare_metal("kv")), other(test::bare_metal("kv"));
  const std::uint64_t hash = history(one, 300000);
  CHECK(one.seen.console == "kv: ready\n");
  CHECK(one.seen.answers == std::vector<std::string>{"OK", "blue", "-"});
  CHECK(history(same, 300000) == hash);
  // It sleeps between requests, so that only the time at which the last one came differs in steps.
  CHECK(history(other, 300001) == hash);
  CHECK(one.machine->hart(0).steps < 20000);
}

TEST_CASE("looking whether a machine is idle changes nothing") {
  Box asked(test::bare_metal("kv")), plain(test::bare_metal("kv"));
  asked.machine->run(Position{1'000'000}, WhenIdle::stop);
  const Position idle_at = asked.machine->position();
  CHECK(idle_at.value < 1'000'000);
  CHECK(asked.machine->idle());
  CHECK_FALSE(asked.machine->next_event());  // It waits for frames only.
  plain.run_to(idle_at.value);
  CHECK(plain.machine->state_hash() == asked.machine->state_hash());
  for (Box* box : {&asked, &plain}) {
    box->ask("S a b");
    box->run_to(idle_at.value + 5000);
  }
  CHECK(plain.machine->state_hash() == asked.machine->state_hash());
}

TEST_CASE("damaged state, and that of another machine, is refused and changes nothing") {
  Box one(test::bare_metal("bank")), two(test::bare_metal("race", 2));
  one.run_to(50000);
  two.run_to(50000);
  std::vector<std::byte> state;
  one.machine->save(state);
  const std::uint64_t before = two.machine->state_hash();
  CHECK(two.machine->load(state).code() == Code::corrupt);
  state[state.size() / 2] ^= std::byte{1};
  CHECK(one.machine->load(state).code() == Code::corrupt);
  CHECK(one.machine->load(std::span(state).first(10)).code() == Code::corrupt);
  CHECK(two.machine->state_hash() == before);
}

TEST_CASE("what cannot be built says why") {
  MachineOptions options = test::bare_metal("bank");
  options.harts = 9;
  CHECK(Machine::create(options, {}).error().message().find("1 to 8") != std::string::npos);
  options.harts = 1;
  options.memory_bytes = 4 << 20;
  options.kernel.resize(8 << 20);
  CHECK(Machine::create(options, {}).error().message().find("remedy") != std::string::npos);
}
