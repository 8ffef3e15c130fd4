// SPDX-License-Identifier: LGPL-2.1-or-later
// A bit flips in the memory of one of two machines that execute one log; what is found out about
// it.
#include "strategy/replay/examine.h"

#include <doctest/doctest.h>

#include "guest/machine/machine_guest.h"
#include "strategy/replay/follower.h"
#include "unit/guest/machine/guest_image.h"
#include "unit/guest/machine/kv_memory.h"
#include "unit/guest/machine/udp_frames.h"

using namespace libft;
using namespace libft::replay;
using namespace libft::test;
using machine::MachineGuest;

namespace {

constexpr std::uint64_t kAnswered = 200'000;  // Positions after which a question is answered.
const std::atomic<bool> kNever{false};

std::unique_ptr<MachineGuest> machine_of(bool standby) {
  machine::MachineGuestOptions options;
  options.machine = bare_metal("kv");
  options.standby = standby;
  auto made = MachineGuest::create(std::move(options));
  REQUIRE(made);
  return std::move(*made);
}

void check_ok(const Status& status) { CHECK_MESSAGE(status.ok(), status.to_string()); }

// A primary whose log is made by hand, and a follower with a landmark, equal where its driver is
// up.
struct Machines {
  std::unique_ptr<MachineGuest> primary = machine_of(true), backup = machine_of(true);
  std::unique_ptr<Landmark> landmark;
  std::optional<Follower> follower;
  std::uint64_t number = 1;
  Position asked, answered;  // Of the newest question.

  Machines() {
    const auto first = machine_of(false);
    REQUIRE(first->pause().ok());
    const Position up{std::max<std::uint64_t>(first->position()->value, 3'000'000)};
    REQUIRE(first->run_until(up).ok());
    Image image;
    REQUIRE(take_image(*first, image).ok());
    REQUIRE(load_image(image, *primary).ok());
    REQUIRE(load_image(image, *backup).ok());
    primary->set_output_sink([this](Position at, const GuestOutput& output) {
      if (output.kind == GuestOutput::Kind::frame) answered = at;
    });
    auto set = Landmark::set(*backup, *backup);
    REQUIRE(set);
    landmark = std::move(*set);
    follower.emplace(*backup);
  }

  // What the primary does with a question, as an epoch.
  wire::LogEpoch ask(const std::string& text, WithHash hash) {
    wire::LogEpoch log;
    log.id = {Generation{1}, Epoch{++number}};
    log.mark.from = *primary->position();
    asked = Position{log.mark.from.value + 777};
    const GuestInput question{GuestInput::Kind::frame, kv_request(text)};
    wire::append_input(log.coded, log.mark.from, asked, question);
    check_ok(primary->run_until(asked));
    check_ok(primary->deliver(question));
    check_ok(primary->run_until(Position{asked.value + kAnswered}));
    check_ok(primary->mark(hash, [&](const Mark& mark) {
      log.mark.until = mark.at;
      log.mark.hash = mark.hash;
      log.mark.said = mark.said;
    }));
    return log;
  }

  void follow(wire::LogEpoch log) {
    check_ok(follower->follow(log));
    check_ok(landmark->passed(std::move(log)));
  }
  void come_apart(wire::LogEpoch log) {
    CHECK(follower->follow(log).code() == Code::corrupt);
    check_ok(landmark->came_apart(std::move(log)));
  }
};

std::size_t flip(MachineGuest& guest, const std::string& key, const std::string& value) {
  const auto memory = guest.info().memory[0].bytes;
  const std::size_t at = kv_value_at(memory, key, value);
  memory[at] ^= std::byte{4};
  return at;
}

// By another way than the one under test: whether the lost byte has made a difference before `at`.
bool has_misled(Landmark& landmark, const OddByte& lost, Position at) {
  Image ends[2];
  GuestCopy* const copies[] = {&landmark.one(), &landmark.other()};
  for (int i = 0; i < 2; ++i) {
    check_ok(load_image(landmark.equal(), *copies[i]->guest));
    if (i == 1) copies[i]->guest->info().memory[0].bytes[lost.offset] = lost.wrong;
    for (const wire::LogEpoch& log : landmark.logs()) {
      std::span<const std::byte> coded = log.coded;
      const auto question = wire::next_input(coded, log.mark.from);
      REQUIRE(question);
      check_ok(copies[i]->exact->run_until(std::min(question->at, at)));
      if (question->at < at) check_ok(copies[i]->exact->deliver(question->input));
      check_ok(copies[i]->exact->run_until(std::min(log.mark.until, at)));
    }
    check_ok(take_image(*copies[i]->guest, ends[i]));
  }
  CHECK(ends[1].regions[0][lost.offset] == lost.wrong);
  ends[1].regions[0][lost.offset] = ends[0].regions[0][lost.offset];
  return ends[0] != ends[1];
}

}  // namespace

TEST_CASE("a bit that the follower's memory lost is found, and the first instruction it misled") {
  Machines machines;
  machines.follow(machines.ask("S color blue", WithHash::no));
  machines.follow(machines.ask("S shape round", WithHash::yes));  // The landmark moves here.
  machines.follow(machines.ask("G shape", WithHash::no));
  const std::size_t at = flip(*machines.backup, "color", "blue");
  machines.follow(machines.ask("G shape", WithHash::no));  // Nobody looks at it.
  const wire::LogEpoch fatal = machines.ask("G color", WithHash::no);
  machines.come_apart(fatal);
  REQUIRE(machines.landmark->logs().size() == 3);

  const auto found = examine(*machines.landmark, kNever);
  REQUIRE(found);
  CHECK(found->verdict == Examination::Verdict::erred_here);
  REQUIRE(found->lost.size() == 1);
  CHECK(found->lost[0] == OddByte{0, at, std::byte{'b'}, std::byte{'f'}});
  CHECK(found->bytes_differ > 1);  // It went into an answer.
  REQUIRE(found->at);
  CHECK(*found->at >= machines.asked);
  CHECK(*found->at < machines.answered);
  const std::string text = describe(*found, machines.primary->info());
  CHECK(text.find("was 0x62 and became 0x66") != std::string::npos);
  CHECK(text.find("position " + std::to_string(found->at->value)) != std::string::npos);

  CHECK_FALSE(has_misled(*machines.landmark, found->lost[0], *found->at));
  CHECK(has_misled(*machines.landmark, found->lost[0], found->until));
}

TEST_CASE("an error of the primary is not taken for one of this host") {
  Machines machines;
  machines.follow(machines.ask("S color blue", WithHash::yes));
  flip(*machines.primary, "color", "blue");
  machines.come_apart(machines.ask("G color", WithHash::no));
  const auto found = examine(*machines.landmark, kNever);
  REQUIRE(found);
  CHECK(found->verdict == Examination::Verdict::erred_there);
  CHECK(found->lost.empty());
}

TEST_CASE("an error that no lost byte explains is told with where it came") {
  Machines machines;
  machines.follow(machines.ask("S color blue", WithHash::yes));
  const Position equal = *machines.backup->position();
  const wire::LogEpoch log = machines.ask("S color grey", WithHash::yes);
  // It is lost behind what the log writes to it, so that it would not be lost again.
  Landmark& landmark = *machines.landmark;
  check_ok(machines.backup->run_until(machines.asked));
  std::span<const std::byte> coded = log.coded;
  check_ok(machines.backup->deliver(wire::next_input(coded, log.mark.from)->input));
  check_ok(machines.backup->run_until(log.mark.until));
  flip(*machines.backup, "color", "grey");
  check_ok(landmark.came_apart(log));
  const auto found = examine(landmark, kNever);
  REQUIRE(found);
  CHECK(found->verdict == Examination::Verdict::erred_here);
  CHECK(found->lost.empty());
  CHECK(found->bytes_differ == 1);
  CHECK(found->from == equal);
  CHECK(found->until == log.mark.until);
}

TEST_CASE("an examination can be called off") {
  Machines machines;
  machines.follow(machines.ask("S color blue", WithHash::yes));
  flip(*machines.backup, "color", "blue");
  machines.come_apart(machines.ask("G color", WithHash::no));
  const std::atomic<bool> at_once{true};
  const auto found = examine(*machines.landmark, at_once);
  REQUIRE_FALSE(found);
  CHECK(found.error().code() == Code::cancelled);
}
