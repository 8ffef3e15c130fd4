// SPDX-License-Identifier: LGPL-2.1-or-later
// The two halves of a comparison, between ports of which nothing is real: what leaves, what the
// follower gets, and whose word counts.
#include <doctest/doctest.h>

#include "strategy/compare/economy.h"
#include "strategy/compare/follower.h"
#include "strategy/compare/referee.h"
#include "support/ip_frames.h"

using namespace libft;
using namespace libft::compare;
using namespace libft::test;

namespace {

EpochId epoch(std::uint64_t n) { return {Generation{1}, Epoch{n}}; }
const GuestId& guest_id() {
  static const GuestId id = *GuestId::from_name("pair");
  return id;
}

class SetClock final : public Clock {
 public:
  Time now() const override { return time; }
  Time time{Millis{1000}};
};

// A gate that keeps what it is told.
class FakeGate final : public ComparedGate, public InputTap {
 public:
  void set_judge(Judge judge) override { judge_ = std::move(judge); }
  void let_out(std::span<const FrameNo> frames) override {
    left.insert(left.end(), frames.begin(), frames.end());
  }
  void follow(FollowerSink sink) override {
    history += sink ? "follow " : "deaf ";
    sink_ = std::move(sink);
  }
  void set_rewrite(Rewrite rewrite) override { rewrite_ = std::move(rewrite); }
  void set_input_sink(std::function<void(std::span<const std::byte>, unsigned)> sink) override {
    input_ = std::move(sink);
  }
  Status inject_input(unsigned nic, std::span<const std::byte> frame) override {
    CHECK(nic == 0);
    given.push_back({frame.begin(), frame.end()});
    return {};
  }

  void guest_sends(const FrameBytes& frame) {
    std::vector<FrameNo> leave;
    if (judge_) judge_(FrameNo{next++}, 0, frame, leave);
    let_out(leave);
    if (sink_) sink_(0, frame);
  }
  void world_sends(const FrameBytes& frame) {
    if (input_) input_(frame, 0);
  }
  bool watched() const { return judge_ || input_; }

  std::vector<FrameNo> left;
  std::vector<FrameBytes> given;
  std::string history;
  std::uint64_t next = 1;

 private:
  Judge judge_;
  FollowerSink sink_;
  Rewrite rewrite_;
  std::function<void(std::span<const std::byte>, unsigned)> input_;
};

class FakeGuest final : public SpeculativeGuest {
 public:
  explicit FakeGuest(std::string& history) : history_(history) {}
  Status begin_speculation() override { return {}; }
  void image_changed(const PageSet&) override { history_ += "image "; }
  Status reload(std::span<const std::byte> state) override {
    history_ += "reload ";
    return state.empty() ? Status(Code::io, "no state") : Status();
  }
  Status run() override {
    history_ += "run ";
    if (fails_to_run) return Status(Code::io, "it does not run");
    runs_ = true;
    return {};
  }
  void halt() override {
    history_ += "halt ";
    runs_ = false;
  }
  bool runs() const override { return runs_; }
  bool fails_to_run = false;

 private:
  std::string& history_;
  bool runs_ = false;
};

template <class Take>
void each_frame(const std::vector<std::byte>& bytes, Take take) {
  wire::FrameReader reader(guest_id());
  REQUIRE(reader.space().size() >= bytes.size());
  std::copy(bytes.begin(), bytes.end(), reader.space().begin());
  reader.stored(bytes.size());
  for (;;) {
    const auto frame = reader.next();
    REQUIRE(frame);
    if (!*frame) return;
    REQUIRE(take(**frame).ok());
  }
}

struct Primary {
  SetClock clock;
  FakeGate gate;
  std::vector<Reason> wanted;
  int copies_told = 0, deadlines = 0;
  Referee referee{gate,
                  gate,
                  clock,
                  guest_id(),
                  ComparatorOptions{},
                  {.copies_wait = [this] { ++copies_told; },
                   .checkpoint = [this](Reason reason) { wanted.push_back(reason); },
                   .deadline_set = [this] { ++deadlines; }}};

  void checkpoint(std::uint64_t n, Referee::Then then = Referee::Then::follower) {
    referee.begin_checkpoint(epoch(n));
    referee.captured(epoch(n), then);
  }
};

struct Backup {
  FakeGate gate;
  FakeGuest guest{gate.history};
  int told = 0;
  Follower follower{guest, gate, gate, guest_id(), [this] { ++told; }};
  const std::vector<std::byte> state{std::byte{1}};

  Status restart(std::uint64_t n) { return follower.restart(epoch(n), state); }
};

struct Both {
  Primary primary;
  Backup backup;

  void exchange() {
    each_frame(primary.referee.take_copies(),
               [&](const wire::Frame& frame) { return backup.follower.on_frames_in(frame); });
    each_frame(backup.follower.take_said(),
               [&](const wire::Frame& frame) { return primary.referee.on_frames_out(frame); });
  }
  void checkpoint(std::uint64_t n) {
    primary.checkpoint(n);
    REQUIRE(backup.restart(n).ok());
    primary.referee.follower_runs(epoch(n));
  }
};

std::vector<FrameNo> numbers(std::initializer_list<std::uint64_t> values) {
  std::vector<FrameNo> all;
  for (const auto value : values) all.push_back(FrameNo{value});
  return all;
}

FrameBytes said(std::string_view text) { return udp_frame({}, text); }

}  // namespace

TEST_CASE("what both say leaves, whoever says it first") {
  Both both;
  both.checkpoint(1);
  both.primary.gate.guest_sends(said("one"));
  CHECK(both.primary.gate.left.empty());
  CHECK(both.primary.deadlines == 1);
  both.backup.gate.guest_sends(said("one"));
  CHECK(both.backup.told == 1);
  both.exchange();
  CHECK(both.primary.gate.left == numbers({1}));
  both.backup.gate.guest_sends(said("two"));
  both.exchange();
  both.primary.gate.guest_sends(said("two"));
  CHECK(both.primary.gate.left == numbers({1, 2}));
  CHECK(both.primary.wanted.empty());
}

TEST_CASE("a difference, and silence, want a checkpoint once; nothing leaves before the next") {
  Both both;
  both.checkpoint(1);
  both.primary.gate.guest_sends(said("one"));
  SUBCASE("a difference") { both.backup.gate.guest_sends(said("other")); }
  SUBCASE("silence") {
    REQUIRE(both.primary.referee.deadline());
    both.primary.clock.time = *both.primary.referee.deadline();
    both.primary.referee.tick();
  }
  both.exchange();
  REQUIRE(both.primary.wanted.size() == 1);
  CHECK_FALSE(both.primary.referee.deadline());
  both.backup.gate.guest_sends(said("one"));
  both.exchange();
  CHECK(both.primary.gate.left.empty());
  both.checkpoint(2);
  both.primary.gate.guest_sends(said("three"));
  both.backup.gate.guest_sends(said("three"));
  both.exchange();
  CHECK(both.primary.gate.left == numbers({2}));
  CHECK(both.primary.wanted.size() == 1);
}

TEST_CASE("an earlier follower's word is not taken for the next one's") {
  Both both;
  both.checkpoint(1);
  both.backup.gate.guest_sends(said("old"));
  const auto late = both.backup.follower.take_said();
  both.primary.checkpoint(2);
  both.primary.gate.guest_sends(said("old"));
  each_frame(late, [&](const wire::Frame& f) { return both.primary.referee.on_frames_out(f); });
  both.primary.referee.follower_runs(epoch(1));
  CHECK(both.primary.gate.left.empty());
  // What is on its way in the backup when it is stopped counts for nobody.
  both.backup.gate.guest_sends(said("old"));
  REQUIRE(both.backup.restart(2).ok());
  both.primary.referee.follower_runs(epoch(2));
  both.exchange();
  CHECK(both.primary.gate.left.empty());
  both.backup.gate.guest_sends(said("old"));
  both.exchange();
  CHECK(both.primary.gate.left == numbers({1}));
}

TEST_CASE("what the follower says before it is known to run counts as soon as it is") {
  Both both;
  both.primary.checkpoint(1);
  REQUIRE(both.backup.restart(1).ok());
  both.backup.gate.guest_sends(said("early"));
  both.exchange();
  both.primary.gate.guest_sends(said("early"));
  CHECK(both.primary.gate.left.empty());
  both.primary.referee.follower_runs(epoch(1));
  CHECK(both.primary.gate.left == numbers({1}));
}

TEST_CASE("where nobody follows, nothing leaves by comparison") {
  Both both;
  both.checkpoint(1);
  SUBCASE("after a checkpoint for nobody") {
    both.primary.checkpoint(2, Referee::Then::nobody);
    both.primary.referee.follower_runs(epoch(2));
  }
  SUBCASE("at rest") { both.primary.referee.rest(); }
  CHECK_FALSE(both.primary.referee.compares());
  both.primary.gate.guest_sends(said("one"));
  both.backup.gate.guest_sends(said("one"));
  both.exchange();
  CHECK(both.primary.gate.left.empty());
  CHECK(both.primary.wanted.empty());
  CHECK_FALSE(both.primary.referee.deadline());
  both.checkpoint(3);
  CHECK(both.primary.referee.compares());
}

TEST_CASE("the follower gets what came after its checkpoint: in order, no less and no other's") {
  Both both;
  both.primary.gate.world_sends(said("before any"));
  both.checkpoint(1);
  both.primary.gate.world_sends(said("a"));
  both.primary.gate.world_sends(said("b"));
  CHECK(both.primary.copies_told == 1);
  both.exchange();
  CHECK((both.backup.gate.given == std::vector{said("a"), said("b")}));

  // It comes while the guest is about to stand still: the next follower's, who waits for it.
  both.primary.referee.begin_checkpoint(epoch(2));
  both.primary.gate.world_sends(said("c"));
  both.exchange();
  CHECK(both.backup.gate.given.size() == 2);
  both.primary.referee.captured(epoch(2), Referee::Then::follower);
  REQUIRE(both.backup.restart(2).ok());
  both.primary.gate.world_sends(said("d"));
  both.exchange();
  CHECK((both.backup.gate.given == std::vector{said("a"), said("b"), said("c"), said("d")}));
}

TEST_CASE("a guest that is loaded for a take-over gets what came in since its checkpoint") {
  Both both;
  both.primary.checkpoint(1, Referee::Then::nobody);
  both.primary.gate.world_sends(said("covered by the next"));
  both.exchange();
  both.primary.checkpoint(2, Referee::Then::nobody);
  both.primary.gate.world_sends(said("since"));
  both.exchange();
  both.backup.follower.applied(epoch(2), {});
  CHECK(both.backup.gate.given.empty());
  both.backup.follower.take_over(epoch(2));
  CHECK((both.backup.gate.given == std::vector<FrameBytes>{said("since")}));
}

TEST_CASE("one that takes over from another is heard only when it runs, the old one no more") {
  Backup backup;
  REQUIRE(backup.restart(1).ok());
  CHECK(backup.gate.history == "deaf halt reload follow run ");
  CHECK(backup.follower.from() == epoch(1));
  backup.gate.history.clear();
  SUBCASE("it cannot be loaded") {
    CHECK_FALSE(backup.follower.restart(epoch(2), {}).ok());
    CHECK(backup.gate.history == "deaf halt reload ");
  }
  SUBCASE("it cannot be run") {
    backup.guest.fails_to_run = true;
    CHECK_FALSE(backup.restart(2).ok());
    CHECK(backup.gate.history == "deaf halt reload follow run deaf halt ");
  }
  SUBCASE("it is stopped") {
    backup.follower.stop();
    CHECK(backup.gate.history == "deaf halt ");
  }
  CHECK_FALSE(backup.follower.from());
  CHECK_FALSE(backup.guest.runs());
  CHECK(backup.follower.take_said().empty());
}

TEST_CASE("copies that are none are refused, and the gate is left as it was") {
  Both both;
  wire::Frame frame;
  CHECK_FALSE(both.primary.referee.on_frames_out(frame).ok());
  CHECK_FALSE(both.backup.follower.on_frames_in(frame).ok());
  SetClock clock;
  FakeGate gate;
  {
    Referee referee(gate, gate, clock, guest_id(), {}, {});
    CHECK(gate.watched());
  }
  CHECK_FALSE(gate.watched());
}

TEST_CASE("comparing that pays goes on; what does not is given longer and longer rests") {
  Time now{std::chrono::seconds{10}};
  const EconomyOptions options{.rest = Millis{500}, .rest_max = Millis{1500}};
  Economy economy(options);
  const auto run = [&](Millis until_it_runs, Millis until_it_differs) {
    REQUIRE(economy.worth(now));
    economy.captured(now);
    economy.runs(now = now + until_it_runs);
    economy.ended(now = now + until_it_differs);
  };
  const auto rest = [&](Millis length) {
    CHECK(economy.rests());
    CHECK_FALSE(economy.worth(now + length - Millis{1}));
    CHECK(economy.worth(now = now + length));
  };
  run(Millis{50}, Millis{50});
  run(Millis{50}, Millis{5000});
  CHECK_FALSE(economy.rests());
  CHECK(economy.in_vain() == 0);
  run(Millis{50}, Millis{49});
  rest(Millis{500});
  run(Millis{50}, Millis{0});
  rest(Millis{1000});
  run(Millis{50}, Millis{10});
  rest(Millis{1500});
  run(Millis{50}, Millis{10});
  rest(Millis{1500});
  CHECK(economy.in_vain() == 4);
  run(Millis{50}, Millis{100});
  run(Millis{50}, Millis{10});
  rest(Millis{500});
  CHECK(economy.runs() == 8);

  // It never came to run.
  economy.captured(now);
  economy.ended(now = now + Millis{100});
  rest(Millis{1000});
  // Whoever rests and takes a checkpoint has not compared.
  economy.ended(now);
  CHECK(economy.in_vain() == 6);

  // It ran for long, and nothing that waited had left.
  economy.captured(now);
  economy.runs(now = now + Millis{50});
  economy.ended(now = now + Millis{5000}, true);
  rest(Millis{1500});
  CHECK(economy.in_vain() == 7);
}
