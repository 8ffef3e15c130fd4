// SPDX-License-Identifier: LGPL-2.1-or-later
// The two halves of replay, the log between them, and what can go wrong with it.
#include <doctest/doctest.h>

#include "base/bytes.h"
#include "strategy/replay/difference.h"
#include "strategy/replay/follower.h"
#include "strategy/replay/log_assembler.h"
#include "strategy/replay/log_delay.h"
#include "strategy/replay/log_shelf.h"
#include "strategy/replay/pace.h"
#include "strategy/replay/recorder.h"
#include "unit/strategy/exact_guest.h"

using namespace libft;
using namespace libft::replay;
using namespace libft::test;

namespace {

const GuestId kGuest = *GuestId::from_name("toy");
EpochId epoch(std::uint64_t number) { return {Generation{1}, Epoch{number}}; }

GuestInput frame(std::string_view text) {
  const auto bytes = base::bytes_of(text);
  return {GuestInput::Kind::frame, {bytes.begin(), bytes.end()}};
}

// A primary and a follower that are equal at the checkpoint of epoch 1.
struct Pair {
  ExactGuest primary, backup;
  Recorder recorder{primary};
  std::optional<Follower> follower;

  Pair() {
    primary.live(Position{1000});
    primary.take(frame("before the log"));
    backup.copy_state(primary);
    REQUIRE(recorder.begin(epoch(1)).ok());
    follower.emplace(backup);
  }
  wire::LogEpoch cut(std::uint64_t number, WithHash hash = WithHash::yes, EpochId released = {}) {
    const auto log = recorder.cut({.id = epoch(number), .hash = hash, .released = released});
    REQUIRE(log);
    return **log;
  }
};

// The frames of a log, one at a time.
std::vector<std::vector<std::byte>> frames_of(const wire::LogEpoch& log) {
  wire::FrameReader reader(kGuest);
  const auto bytes = wire::encode_log(kGuest, log);
  std::vector<std::vector<std::byte>> frames;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::size_t size =
        wire::kHeaderBytes + base::load_le<std::uint32_t>(bytes.data() + at + 12);
    frames.emplace_back(bytes.begin() + std::ptrdiff_t(at),
                        bytes.begin() + std::ptrdiff_t(at + size));
    at += size;
  }
  return frames;
}

Result<std::optional<wire::LogEpoch>> feed(LogAssembler& assembler,
                                           const std::vector<std::byte>& bytes) {
  wire::FrameReader reader(kGuest);
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto space = reader.space();
    const std::size_t now = std::min(space.size(), bytes.size() - at);
    std::copy_n(bytes.begin() + std::ptrdiff_t(at), now, space.begin());
    reader.stored(now);
    at += now;
  }
  const auto frame = reader.next();
  REQUIRE(frame);
  REQUIRE(*frame);
  return assembler.on_frame(**frame);
}

}  // namespace

TEST_CASE("what was logged is done again, to the same state") {
  Pair pair;
  for (std::uint64_t number = 2; number < 50; ++number) {
    for (int i = 0; i < 3; ++i) {
      pair.primary.live(Position{pair.primary.position()->value + number * 7});
      pair.primary.take(frame("input " + std::to_string(number)));
    }
    if (number % 3 == 0) pair.primary.live(Position{pair.primary.position()->value + 5});
    const Status followed = pair.follower->follow(pair.cut(number));
    CHECK_MESSAGE(followed.ok(), followed.to_string());
    CHECK(*pair.backup.state_hash() == *pair.primary.state_hash());
  }
}

TEST_CASE("an execution that comes apart is noticed by its output, or at the next hash") {
  const auto apart = [](std::uint64_t until, WithHash hash) {
    Pair pair;
    pair.primary.live(Position{2001});
    CHECK(pair.follower->follow(pair.cut(2)).ok());
    pair.backup.flip_bit();
    pair.primary.live(Position{until});
    return pair.follower->follow(pair.cut(3, hash));
  };
  CHECK(apart(2050, WithHash::no).ok());  // It said nothing, and nobody compared.
  const Status by_output = apart(2150, WithHash::no), by_hash = apart(2050, WithHash::yes);
  CHECK(by_output.code() == Code::corrupt);
  CHECK(by_output.message().find("between positions 2001 and 2150") != std::string::npos);
  CHECK(by_output.message().find("output") != std::string::npos);
  CHECK(by_hash.code() == Code::corrupt);
  CHECK(by_hash.message().find("state") != std::string::npos);
}

TEST_CASE("an input that is lost, moved or done twice is noticed") {
  const auto spoiled = [](auto spoil) {
    Pair pair;
    pair.primary.live(Position{1200});
    pair.primary.take(frame("one"));
    pair.primary.live(Position{1300});
    pair.primary.take(frame("two"));
    pair.primary.live(Position{1400});
    wire::LogEpoch log = pair.cut(2);
    std::vector<wire::LoggedInput> inputs;
    std::span<const std::byte> rest = log.coded;
    for (Position at = log.mark.from; !rest.empty();) {
      inputs.push_back(*wire::next_input(rest, at));
      at = inputs.back().at;
    }
    spoil(inputs);
    log.coded.clear();
    Position before = log.mark.from;
    for (const auto& input : inputs) {
      wire::append_input(log.coded, before, input.at, input.input);
      before = input.at;
    }
    return pair.follower->follow(log).code() == Code::corrupt;
  };
  using Inputs = std::vector<wire::LoggedInput>;
  CHECK_FALSE(spoiled([](Inputs&) {}));
  CHECK(spoiled([](Inputs& inputs) { inputs.pop_back(); }));
  CHECK(spoiled([](Inputs& inputs) { ++inputs[1].at.value; }));
  CHECK(spoiled([](Inputs& inputs) { inputs.insert(inputs.begin(), inputs[0]); }));
  CHECK(spoiled([](Inputs& inputs) { std::swap(inputs[0].input, inputs[1].input); }));
}

TEST_CASE("a follower repeats what may not have left the primary, and nothing that has") {
  Pair pair;
  for (const std::uint64_t number : {2, 3, 4}) {
    pair.primary.live(Position{number * 1000});
    CHECK(pair.follower->follow(pair.cut(number, WithHash::no, epoch(number == 4 ? 2 : 1))).ok());
  }
  CHECK(pair.backup.said.empty());
  CHECK(pair.follower->go_live() == 20);  // Ten of each epoch; those of 2 were released.
  REQUIRE(pair.backup.again.size() == 20);
  const std::vector<std::string> last(pair.primary.said.end() - 20, pair.primary.said.end());
  CHECK(pair.backup.again == last);
  pair.backup.live(Position{4201});
  CHECK(pair.backup.said.size() == 3);  // It speaks for itself now.
}

TEST_CASE("a guest that ended ends where it ended") {
  Pair pair;
  for (ExactGuest* guest : {&pair.primary, &pair.backup}) guest->ends_at(Position{1500});
  pair.primary.live(Position{9999});
  wire::LogEpoch log = pair.cut(2);
  CHECK(log.mark.until == Position{1500});
  CHECK(pair.follower->follow(log).ok());
  CHECK(pair.follower->came_to()->ended);
  log.mark.until = Position{1600};  // As if the backup's had ended before the primary's.
  log.mark.from = Position{1500};
  log.coded.clear();
  CHECK(pair.follower->follow(log).code() == Code::guest_gone);
}

TEST_CASE("an interrupted follower stops") {
  Pair pair;
  pair.primary.live(Position{2000});
  pair.follower->interrupt();
  CHECK(pair.follower->follow(pair.cut(2)).code() == Code::cancelled);
}

TEST_CASE("a recorder has what the backup lacks until it is acknowledged") {
  Pair pair;
  for (const std::uint64_t number : {2, 3, 4}) {
    pair.primary.take(frame("x"));
    pair.cut(number);
  }
  CHECK(pair.recorder.bytes() > 0);
  CHECK(pair.recorder.since(epoch(2)).size() == 2);
  CHECK(pair.recorder.since(epoch(2))[0]->id == epoch(3));
  CHECK(pair.recorder.since(epoch(2))[0]->base == epoch(2));
  pair.recorder.acknowledged(epoch(3));
  CHECK(pair.recorder.since(epoch(0)).size() == 1);
  pair.recorder.acknowledged(epoch(4));
  CHECK(pair.recorder.bytes() == 0);
}

TEST_CASE("logs travel whole, in order, or not at all") {
  Pair pair;
  pair.primary.take({GuestInput::Kind::frame, std::vector<std::byte>(60000)});
  for (int i = 0; i < 40; ++i)
    pair.primary.take({GuestInput::Kind::frame, std::vector<std::byte>(60000)});
  const wire::LogEpoch two = pair.cut(2);
  pair.primary.live(Position{1300});
  const wire::LogEpoch three = pair.cut(3);
  const auto long_frames = frames_of(two);
  REQUIRE(long_frames.size() == 3);
  const auto code = [](const auto& result) { return result ? Code{} : result.error().code(); };

  LogAssembler assembler;
  CHECK(code(feed(assembler, long_frames[0])) == Code::corrupt);  // No checkpoint before it.
  assembler.begin(epoch(1), Position{1000});
  CHECK(code(feed(assembler, frames_of(three)[0])) == Code::corrupt);  // Its base is missing.
  CHECK_FALSE(*feed(assembler, long_frames[0]));
  CHECK(code(feed(assembler, long_frames[2])) == Code::corrupt);  // One was left out.
  assembler.drop_partial();
  CHECK_FALSE(*feed(assembler, long_frames[0]));
  CHECK_FALSE(*feed(assembler, long_frames[1]));
  const auto whole = feed(assembler, long_frames[2]);
  REQUIRE(whole);
  REQUIRE(*whole);
  CHECK(**whole == two);
  CHECK(code(feed(assembler, long_frames[0])) == Code::corrupt);  // Twice.
  const auto next = feed(assembler, frames_of(three)[0]);
  REQUIRE(next);
  CHECK(**next == three);
}

TEST_CASE("a shelf has what leads from the image to the newest epoch, and no more") {
  Pair pair;
  LogShelf shelf(epoch(1));
  CHECK(shelf.covers(epoch(1)).code() == Code::corrupt);  // It is the image already.
  for (std::uint64_t number = 2; number <= 6; ++number) {
    pair.primary.live(Position{1000 + number * 100});
    CHECK(shelf.keep(pair.cut(number)).ok());
  }
  CHECK(shelf.covers(epoch(7)).code() == Code::corrupt);                   // Its log is not here.
  CHECK(shelf.covers({Generation{2}, Epoch{4}}).code() == Code::corrupt);  // Another's.
  REQUIRE(shelf.covers(epoch(4)).ok());
  shelf.rebase(epoch(4));
  CHECK(shelf.image() == epoch(4));
  CHECK(shelf.covers(epoch(3)).code() == Code::corrupt);  // Older than the image.
  const auto logs = shelf.take();
  REQUIRE(logs.size() == 2);
  CHECK(logs[0].id == epoch(5));
  CHECK(logs[0].base == epoch(4));
  CHECK(logs[1].id == epoch(6));
  CHECK(shelf.take().empty());
}

TEST_CASE("a delay keeps logs until they are due, and tells being late from being late by choice") {
  const auto at = [](int seconds) { return Time{} + std::chrono::seconds(seconds); };
  const auto log = [](std::uint64_t number) {
    return wire::LogEpoch{epoch(number), epoch(number - 1), {}, std::vector<std::byte>(100)};
  };
  LogDelay delay(std::chrono::seconds(10), 10 * (sizeof(wire::LogEpoch) + 100));
  CHECK_FALSE(delay.due_at());
  for (int i = 0; i < 5; ++i) delay.keep(at(i), log(2 + unsigned(i)));
  CHECK(*delay.due_at() == at(10));
  CHECK_FALSE(delay.take_due(at(9)));
  CHECK(delay.caught_up() == epoch(6));
  CHECK(delay.behind(at(9)) == std::chrono::seconds(9));
  // It is taken in time, and executed 2 s too late.
  CHECK(delay.take_due(at(10))->id == epoch(2));
  CHECK_FALSE(delay.take_due(at(10)));
  delay.keep(at(10), log(7));
  delay.keep(at(11), log(8));
  delay.keep(at(12), log(9));
  CHECK(delay.caught_up() == epoch(7));  // Of what came until 10: as an undelayed one at 10.
  delay.executed(epoch(2));
  CHECK(delay.caught_up() == epoch(8));
  CHECK(delay.take_due(at(12))->id == epoch(3));
  CHECK(delay.take_due(at(12))->id == epoch(4));
  CHECK_FALSE(delay.take_due(at(12)));
  delay.executed(epoch(4));
  CHECK(delay.caught_up() == epoch(9));
  // Five are here; six more are one too many.
  for (int i = 0; i < 5; ++i) delay.keep(at(12), log(10 + unsigned(i)));
  CHECK(delay.has_room());
  CHECK_FALSE(delay.take_due(at(12)));
  delay.keep(at(12), log(15));
  CHECK_FALSE(delay.has_room());
  CHECK(delay.take_due(at(12))->id == epoch(5));
  CHECK_FALSE(delay.take_due(at(12)));
  const auto rest = delay.take_all();
  REQUIRE(rest.size() == 10);
  CHECK(rest.front().id == epoch(6));
  CHECK(rest.back().id == epoch(15));
  CHECK_FALSE(delay.due_at());
  delay.executed(epoch(15));
  CHECK(delay.caught_up() == epoch(15));
  CHECK(delay.behind(at(20)) == Nanos{0});
}

TEST_CASE("a log that contradicts itself is corrupt") {
  const auto refused = [](auto spoil) {
    Pair pair;
    pair.primary.live(Position{1100});
    pair.primary.take(frame("x"));
    pair.primary.live(Position{1200});
    wire::LogEpoch log = pair.cut(2);
    spoil(log);
    LogAssembler assembler;
    assembler.begin(epoch(1), Position{1000});
    const auto taken = feed(assembler, frames_of(log)[0]);
    return !taken && taken.error().code() == Code::corrupt;
  };
  CHECK_FALSE(refused([](wire::LogEpoch&) {}));
  CHECK(refused([](wire::LogEpoch& log) { ++log.mark.inputs; }));
  CHECK(refused([](wire::LogEpoch& log) { log.mark.bytes += 1; }));
  CHECK(refused([](wire::LogEpoch& log) { log.mark.from = Position{999}; }));
  CHECK(refused([](wire::LogEpoch& log) { log.mark.until = Position{1050}; }));
  CHECK(refused([](wire::LogEpoch& log) { log.id = epoch(1); }));
  CHECK(refused(
      [](wire::LogEpoch& log) { log.coded.back() = std::byte{1}, log.coded.push_back({}); }));
}

TEST_CASE("the first difference of two executions is found to the position") {
  Pair pair;
  ExactGuest begin;
  begin.copy_state(pair.primary);
  std::vector<wire::LogEpoch> logs;
  for (const std::uint64_t number : {2, 3, 4}) {
    for (int i = 0; i < 5; ++i) {
      pair.primary.live(Position{pair.primary.position()->value + 61 * number});
      pair.primary.take(frame("input " + std::to_string(i)));
    }
    logs.push_back(pair.cut(number));
  }
  const std::uint64_t from = logs.front().mark.from.value, until = logs.back().mark.until.value;
  for (const std::uint64_t at : {from, from + 1, from + 122, from + 123, until - 1, until}) {
    CAPTURE(at);
    ExactGuest one, other;
    other.errs_at(Position{at});
    const auto restart = [&begin](ExactGuest& guest) {
      return [&] { return guest.copy_state(begin), Status(); };
    };
    const auto found =
        first_difference({one, restart(one)}, {other, restart(other)}, std::span(logs));
    REQUIRE(found);
    CHECK(found->has_value() == (at < until));  // The last instruction is the one before the end.
    if (!*found) continue;
    CHECK((*found)->at == Position{at});
    CHECK((*found)->one != (*found)->other);
  }
}

TEST_CASE("the pace falls gradually with the lag") {
  const Nanos bound = Millis{100};
  CHECK(pace(Nanos{0}, bound) == 100);
  CHECK(pace(bound / 2, bound) == 100);
  unsigned before = 100;
  for (Nanos lag = bound / 2; lag < 4 * bound; lag += Millis{5}) {
    const unsigned now = pace(lag, bound);
    CHECK(now <= before);
    CHECK(now + 5 >= before);
    before = now;
  }
  CHECK(before == kPaceLeast);
}
