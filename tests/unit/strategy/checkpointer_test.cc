// SPDX-License-Identifier: LGPL-2.1-or-later
// The Checkpointer's list of phases, and what is left when the nth call of any port fails.
#include "strategy/checkpoint/checkpointer.h"

#include <doctest/doctest.h>

#include <string>

#include "unit/strategy/world.h"

using namespace libft;
using namespace libft::test;
using checkpoint::CapturedEpoch;
using checkpoint::CaptureOrder;
using checkpoint::Checkpointer;

namespace {

// Counts the calls into the ports, notes them, and fails one of them.
struct Script {
  Status call(const std::string& name) {
    calls += (calls.empty() ? "" : " ") + name;
    const int now = count++;
    if (now != fail_at && now < fail_from) return {};
    failed = name;
    return Status(Code::io, "injected");
  }
  std::string calls, failed;
  int count = 0, fail_at = -1, fail_from = 1 << 30;
};

class FakeClock final : public Clock {
 public:
  Time now() const override { return Time{Millis{ticks++}}; }
  mutable int ticks = 0;
};

class FakeGuest final : public Guest {
 public:
  FakeGuest(Memory& memory, Script& script) : memory_(memory), script_(script) {}

  const GuestInfo& info() const override { return memory_.info(); }
  void set_event_sink(std::function<void(GuestEvent)>) override {}
  Status start_tracking() override { return {}; }
  void stop_tracking() override {}
  Status pause() override {
    FT_TRY(script_.call("pause"));
    CHECK(running);
    running = false;
    return {};
  }
  Status resume() override {
    FT_TRY(script_.call("resume"));
    running = true;
    return {};
  }
  Status take_written(PageSet& into) override {
    if (Status status = script_.call("take_written"); !status.ok()) {
      into.add(PageNo{0}, 3);  // Half an answer; all of it comes again.
      return status;
    }
    into = written;
    written.clear();
    return {};
  }
  Status save_state() override {
    CHECK(!running);
    return script_.call("save_state");
  }
  Status fetch_state(std::vector<std::byte>& state) override {
    FT_TRY(script_.call("fetch_state"));
    state.assign(10, std::byte{7});
    return {};
  }
  Status accepts(const GuestInfo&) const override { return {}; }
  Status probe_state(std::span<const std::byte>) override { return {}; }
  Status load_state(std::span<const std::byte>) override { return {}; }
  Status trial_run(StillMoment&) override { return {}; }
  Status activate() override { return {}; }
  void destroy() override {}
  Nanos clock_lag() const override { return Nanos{0}; }

  void write(std::uint64_t index, int value) {
    memory_.page(index)[0] = std::byte(value);
    written.add(memory_.number(index));
  }
  PageSet written;
  bool running = true;

 private:
  Memory& memory_;
  Script& script_;
};

class FakeGate final : public OutputGate {
 public:
  FakeGate(Script& script, FakeGuest& guest) : script_(script), guest_(guest) {}
  GateLimits limits() const override { return {}; }
  void set_waiting_sink(std::function<void()>) override {}
  Status hold() override {
    CHECK(!guest_.running);
    holds = true;  // Also when it fails: half a hold.
    return script_.call("hold");
  }
  Status seal(EpochId id) override {
    CHECK(!guest_.running);
    FT_TRY(script_.call("seal"));
    sealed = id;
    return {};
  }
  Status release(EpochId) override { return {}; }
  void discard() override {}
  Status open() override {
    FT_TRY(script_.call("open"));
    holds = false;
    return {};
  }
  GateStatistics statistics() const override { return {}; }
  EpochId sealed;
  bool holds = false;

 private:
  Script& script_;
  FakeGuest& guest_;
};

struct World {
  explicit World(int fail_at = -1) {
    auto made = Checkpointer::make(guest, gate, arena, clock, 2, 1 << 20);
    REQUIRE(made);
    checkpointer = std::move(*made);
    script.fail_at = fail_at;
  }
  Script script;
  Memory memory{20, 12};
  FakeGuest guest{memory, script};
  FakeGate gate{script, guest};
  HeapArena arena;
  FakeClock clock;
  std::unique_ptr<Checkpointer> checkpointer;
};

PageSet pages_of(const Memory& memory, std::initializer_list<std::uint64_t> indexes) {
  PageSet set;
  for (auto index : indexes) set.add(memory.number(index));
  return set;
}

void check_copies(World& world, const CapturedEpoch& epoch,
                  std::initializer_list<std::pair<std::uint64_t, int>> expected) {
  PageSet set;
  std::size_t at = 0;
  REQUIRE(epoch.staging.size() == expected.size() * 4096);
  for (const auto& [index, value] : expected) {
    set.add(world.memory.number(index));
    CHECK(epoch.staging[at] == std::byte(value));
    at += 4096;
  }
  CHECK(epoch.pages == set);
}

}  // namespace

TEST_CASE("the phases, in their order, each with its time") {
  World world;
  world.guest.write(3, 30);
  world.guest.write(4, 40);
  world.guest.write(25, 50);  // In the second region.
  const auto epoch = world.checkpointer->run({id_of(2, 9)});
  REQUIRE(epoch);
  CHECK(world.script.calls == "pause take_written save_state seal resume fetch_state");
  CHECK((*epoch)->id == id_of(2, 9));
  CHECK(!(*epoch)->first);
  CHECK((*epoch)->state == Bytes(10, std::byte{7}));
  CHECK((*epoch)->raw.empty());
  check_copies(world, **epoch, {{3, 30}, {4, 40}, {25, 50}});
  const auto& times = (*epoch)->times;
  CHECK(times.pause == Millis{1});
  CHECK(times.capture == Millis{1});
  CHECK(times.seal == Millis{1});
  CHECK(times.resume == Millis{1});
  CHECK((*epoch)->resumed_at - (*epoch)->paused_at == times.stopped());
  CHECK(world.gate.sealed == id_of(2, 9));
  CHECK(world.guest.running);

  // The copy stays what it was while the guest writes on.
  world.guest.write(3, 31);
  check_copies(world, **epoch, {{3, 30}, {4, 40}, {25, 50}});
}

TEST_CASE("a first hold, and a guest that stays paused") {
  World world;
  auto epoch = world.checkpointer->run({id_of(1, 1), true, false, false});
  REQUIRE(epoch);
  CHECK(world.script.calls == "pause take_written save_state hold seal resume fetch_state");
  CHECK((*epoch)->first);
  world.checkpointer->give_back(*epoch);
  world.script.calls.clear();
  epoch = world.checkpointer->run({id_of(1, 2), false, true, false});
  REQUIRE(epoch);
  CHECK(world.script.calls == "pause take_written save_state seal fetch_state");
  CHECK(!(*epoch)->first);
  CHECK(!world.guest.running);
  world.guest.running = true;
  world.checkpointer->give_back(*epoch);
  epoch = world.checkpointer->run({id_of(1, 3), false, false, true});
  REQUIRE(epoch);
  CHECK((*epoch)->guest_ended);
  CHECK(!world.guest.running);
}

TEST_CASE("slots are taken, given back, and returned to the arena") {
  HeapArena arena;
  {
    World world;
    CHECK(world.arena.reservations() == 2);
    const auto one = world.checkpointer->run({id_of(1, 1)});
    REQUIRE(one);
    CHECK(world.checkpointer->slot_free());
    world.guest.write(1, 1);
    const auto two = world.checkpointer->run({id_of(1, 2)});
    REQUIRE(two);
    CHECK(!world.checkpointer->slot_free());
    world.checkpointer->give_back(*one);
    CHECK(world.checkpointer->slot_free());
    check_copies(world, **two, {{1, 1}});
    world.checkpointer.reset();
    CHECK(world.arena.given_back == 2);
  }
  Script script;
  Memory memory;
  FakeGuest guest(memory, script);
  FakeGate gate(script, guest);
  FakeClock clock;
  arena.empty = true;
  CHECK(Checkpointer::make(guest, gate, arena, clock, 1, 1).error().code() == Code::exhausted);
}

TEST_CASE("carried pages come in the next capture, raw, and only there") {
  World world;
  world.guest.write(3, 30);
  world.checkpointer->carry(pages_of(world.memory, {7, 3}));
  auto epoch = world.checkpointer->run({id_of(1, 1)});
  REQUIRE(epoch);
  check_copies(world, **epoch, {{3, 30}, {7, 0}});
  CHECK((*epoch)->raw == pages_of(world.memory, {3, 7}));
  world.checkpointer->give_back(*epoch);
  epoch = world.checkpointer->run({id_of(1, 2)});
  REQUIRE(epoch);
  check_copies(world, **epoch, {});
  CHECK((*epoch)->raw.empty());
}

TEST_CASE("whichever call fails: the guest runs, the gate is as before, no page is lost") {
  for (const bool begin_hold : {false, true}) {
    for (const bool stay_paused : {false, true}) {
      for (int n = 0;; ++n) {
        World world(n);
        world.guest.write(3, 30);
        world.checkpointer->carry(pages_of(world.memory, {7}));
        const auto failed = world.checkpointer->run({id_of(1, 5), begin_hold, stay_paused, false});
        if (failed) break;
        CAPTURE(world.script.failed);
        CHECK(failed.error().code() == Code::io);
        CHECK(failed.error().message().find("checkpoint 1.5: ") == 0);
        CHECK(world.guest.running);
        CHECK(!world.gate.holds);
        // Behind the seal there is no way back; the next epoch's seal covers that output, too.
        const bool behind = world.script.failed == "resume" || world.script.failed == "fetch_state";
        CHECK((world.gate.sealed == EpochId{}) == !behind);

        world.guest.write(9, 90);
        REQUIRE(world.checkpointer->slot_free());
        const auto epoch = world.checkpointer->run({id_of(1, 6), begin_hold});
        REQUIRE(epoch);
        check_copies(world, **epoch, {{3, 30}, {7, 0}, {9, 90}});
        CHECK((*epoch)->raw == pages_of(world.memory, {7}));
      }
    }
  }
}

TEST_CASE("failures while a failure is undone are all said") {
  World world;
  world.script.fail_from = 4;  // seal, then open and resume
  const auto failed = world.checkpointer->run({id_of(1, 1), true});
  REQUIRE(!failed);
  CHECK(failed.error().message() ==
        "checkpoint 1.1: seal: injected; and the gate could not be opened again: injected; and the "
        "guest could not be resumed: injected");
}

TEST_CASE("a guest that ended is not set running by a failure") {
  World world(1);
  const auto failed = world.checkpointer->run({id_of(1, 1), false, false, true});
  REQUIRE(!failed);
  CHECK(world.script.calls == "pause take_written");
}

TEST_CASE("a driver that reports a page which the guest does not have is named") {
  World world;
  world.guest.written.add(PageNo{19}, 2);  // 20 lies in the hole.
  const auto failed = world.checkpointer->run({id_of(1, 1)});
  REQUIRE(!failed);
  CHECK(failed.error().code() == Code::internal);
  CHECK(failed.error().message().find("page 20") != std::string::npos);
  CHECK(world.guest.running);
}
