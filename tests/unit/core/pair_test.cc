// SPDX-License-Identifier: LGPL-2.1-or-later
// The two machines of a pair, one event at a time: what each is asked to do, and above all what it
// is not. tests/sim plays whole histories of them with faults; this is where to read how they work.
#include <doctest/doctest.h>

#include <optional>

#include "core/backup.h"
#include "core/primary.h"

using namespace libft;
using namespace libft::core;

namespace {

const Incarnation kPrimary{"a", {1}}, kBackup{"b", {2}};
const OwnershipRecord kAlone{Generation{1}, kPrimary, {kPrimary}, false};
const OwnershipRecord kBoth{Generation{2}, kPrimary, {kPrimary, kBackup}, false};

template <class What>
std::optional<What> find(const Actions& actions) {
  for (const auto& action : actions)
    if (const auto* what = std::get_if<What>(&action)) return *what;
  return std::nullopt;
}

template <class Message>
std::optional<Message> sent(const Actions& actions) {
  for (const auto& action : actions)
    if (const auto* send = std::get_if<SendMessage>(&action))
      if (const auto* message = std::get_if<Message>(&send->message)) return *message;
  return std::nullopt;
}

bool lets_output_go(const Actions& actions) {
  return find<ReleaseOutput>(actions) || find<OpenOutput>(actions);
}

SwapAnswer won(const OwnershipRecord& record) { return {SwapOutcome::won, record, {}}; }
SwapAnswer unknown() { return {SwapOutcome::unknown, {}, "no answer"}; }

// A primary with a backup, and the time that passes for it: never so much that it must think that
// it stood still.
struct Pair {
  Time now{Nanos{0}};
  Primary primary{kPrimary, kAlone, Epoch{1}, {}, now};

  Time soon() { return now = now + Millis{20}; }

  Actions captured(const TakeCheckpoint& order) {
    return primary.on_captured(soon(), order.id, {.resumed_at = now});
  }
  // The backup is welcomed, gets the image, and is asked to be listed.
  std::optional<SwapRecord> join() {
    wire::Hello hello;
    hello.backup = kBackup;
    REQUIRE(primary.consider(hello).accepted);
    REQUIRE(find<BeginSync>(primary.on_backup(soon(), hello)));
    const auto first = find<TakeCheckpoint>(primary.on_sync_converged(soon()));
    REQUIRE(first);
    CHECK(first->begin_hold);
    CHECK_FALSE(lets_output_go(captured(*first)));
    return find<SwapRecord>(primary.on_ack(soon(), first->id));
  }
  void protect() {
    REQUIRE(join());
    const auto actions = primary.on_swap(soon(), won(kBoth));
    CHECK(sent<wire::Joined>(actions));
    REQUIRE(primary.is_protected());
  }
  TakeCheckpoint checkpoint() {
    const auto order = find<TakeCheckpoint>(primary.on_output_waiting(soon()));
    REQUIRE(order);
    CHECK_FALSE(lets_output_go(captured(*order)));
    return *order;
  }
};

}  // namespace

TEST_CASE("a backup is protected by only after the record lists it") {
  Pair pair;
  const auto swap = pair.join();
  REQUIRE(swap);
  CHECK(swap->from == kAlone);
  CHECK(swap->to == kBoth);
  CHECK_FALSE(pair.primary.is_protected());
  // No answer: nothing leaves, and the same swap is asked again, since it may have landed.
  CHECK_FALSE(lets_output_go(pair.primary.on_swap(pair.soon(), unknown())));
  pair.now = pair.now + Millis{100};
  const auto again = find<SwapRecord>(pair.primary.on_tick(pair.now));
  REQUIRE(again);
  CHECK(again->to == swap->to);
  (void)pair.primary.on_swap(pair.soon(), won(kBoth));
  CHECK(pair.primary.is_protected());
}

TEST_CASE("output of an epoch leaves when exactly that epoch is acknowledged") {
  Pair pair;
  pair.protect();
  const auto first = pair.checkpoint(), second = pair.checkpoint();
  CHECK(pair.primary.inflight() == 2);
  const auto out = find<ReleaseOutput>(pair.primary.on_ack(pair.soon(), first.id));
  REQUIRE(out);
  CHECK(out->through == first.id);
  // Under an older generation it says nothing of what this record covers.
  EpochId old = second.id;
  old.generation = kAlone.generation;
  CHECK_FALSE(lets_output_go(pair.primary.on_ack(pair.soon(), old)));
  CHECK(find<ReleaseOutput>(pair.primary.on_ack(pair.soon(), second.id)));
}

TEST_CASE("no more epochs are in flight than the options allow") {
  Pair pair;
  pair.protect();
  pair.checkpoint();
  pair.checkpoint();
  CHECK_FALSE(find<TakeCheckpoint>(pair.primary.on_output_waiting(pair.soon())));
}

TEST_CASE("a silent backup is taken out of the record before anything more leaves") {
  Pair pair;
  pair.protect();
  const auto epoch = pair.checkpoint();
  const auto suspected = pair.primary.on_suspected(pair.soon(), "silent");
  const auto swap = find<SwapRecord>(suspected);
  REQUIRE(swap);
  CHECK(swap->to.in_sync == std::vector{kPrimary});
  CHECK_FALSE(lets_output_go(suspected));
  // A late acknowledgement changes nothing: the swap is out.
  CHECK_FALSE(lets_output_go(pair.primary.on_ack(pair.soon(), epoch.id)));
  SUBCASE("won: it runs alone") {
    CHECK(find<OpenOutput>(pair.primary.on_swap(pair.soon(), won(swap->to))));
  }
  SUBCASE("lost: the guest is stopped and its output dropped") {
    const OwnershipRecord theirs{Generation{3}, kBackup, {kBackup}, false};
    const auto actions = pair.primary.on_swap(pair.soon(), {SwapOutcome::lost, theirs, {}});
    CHECK(find<DiscardOutput>(actions));
    CHECK(find<StopGuest>(actions));
    CHECK_FALSE(lets_output_go(actions));
  }
}

TEST_CASE("a primary that stood still asks before it releases") {
  Pair pair;
  pair.protect();
  const auto epoch = pair.checkpoint();
  pair.now = pair.now + std::chrono::seconds{5};
  CHECK_FALSE(lets_output_go(pair.primary.on_ack(pair.now, epoch.id)));
  REQUIRE(pair.primary.must_confirm());
  REQUIRE(find<ReadRecord>(pair.primary.on_tick(pair.soon())));
  const ReadAnswer unchanged{ReadAnswer::Outcome::found, kBoth, {}};
  CHECK(find<ReleaseOutput>(pair.primary.on_read(pair.soon(), unchanged)));
}

TEST_CASE("a backup acknowledges complete epochs, and none from when it wants to take over") {
  Backup backup(kBackup, {});
  Time now{Nanos{0}};
  wire::Welcome welcome;
  welcome.primary = kPrimary;
  (void)backup.on_welcome(now, welcome, kAlone.generation);
  const EpochId first{kAlone.generation, Epoch{1}};
  const auto complete = backup.on_epoch_complete(now, first, true, false, false);
  REQUIRE(sent<wire::Ack>(complete));
  CHECK(find<ApplyEpoch>(complete));
  (void)backup.on_joined(now, kBoth.generation);
  REQUIRE(backup.state() == BackupState::in_sync);

  (void)backup.on_suspected(now, "silent", Nanos{0});
  CHECK_FALSE(find<ReadRecord>(backup.on_tick(now)));  // The primary's head start.
  now = now + Millis{25};
  REQUIRE(find<ReadRecord>(backup.on_tick(now)));
  CHECK_FALSE(backup.acknowledges());
  const auto swap = find<SwapRecord>(backup.on_read(now, {ReadAnswer::Outcome::found, kBoth, {}}));
  REQUIRE(swap);
  CHECK(swap->to.owner == kBackup);
  SUBCASE("unknown is no grant") {
    CHECK_FALSE(find<Promote>(backup.on_swap(now, unknown())));
    CHECK_FALSE(backup.acknowledges());
  }
  SUBCASE("won: it runs the guest") {
    const auto order = find<Promote>(backup.on_swap(now, won(swap->to)));
    REQUIRE(order);
    CHECK(order->loser == kPrimary);
  }
  SUBCASE("lost: it is no replica any more, and begins anew") {
    const OwnershipRecord alone{Generation{3}, kPrimary, {kPrimary}, false};
    const auto actions = backup.on_swap(now, {SwapOutcome::lost, alone, {}});
    CHECK(find<StartOver>(actions));
    CHECK_FALSE(find<Promote>(actions));
  }
}

TEST_CASE("a backup that the record does not list never takes over") {
  Backup backup(kBackup, {});
  const Time now{Nanos{0}};
  wire::Welcome welcome;
  welcome.primary = kPrimary;
  (void)backup.on_welcome(now, welcome, kAlone.generation);
  (void)backup.on_epoch_complete(now, {kAlone.generation, Epoch{1}}, true, false, false);
  (void)backup.fail_over(now);
  const auto actions = backup.on_read(now, {ReadAnswer::Outcome::found, kAlone, {}});
  CHECK_FALSE(find<SwapRecord>(actions));
  CHECK_FALSE(find<Promote>(actions));
}

TEST_CASE("a take-over goes on from what is here, acknowledged or not, and says if that ended") {
  Backup backup(kBackup, {});
  const Time now{Nanos{0}};
  const EpochId image{kAlone.generation, Epoch{1}}, next{kBoth.generation, Epoch{2}},
      last{kBoth.generation, Epoch{3}};
  wire::Welcome welcome;
  welcome.primary = kPrimary;
  (void)backup.on_welcome(now, welcome, kAlone.generation);
  (void)backup.on_epoch_complete(now, image, true, false, false);
  backup.on_epoch_here(next, false, true);
  backup.on_epoch_here(last, true, true);
  const auto claims = [&] {
    (void)backup.fail_over(now);
    return *find<SwapRecord>(backup.on_read(now, {ReadAnswer::Outcome::found, kBoth, {}}));
  };
  SUBCASE("the newest counts, whichever is acknowledged") {
    (void)backup.on_epoch_complete(now, next, false, false, true);
    CHECK(backup.newest() == next);
    CHECK(claims().to.ended);
  }
  SUBCASE("what is given up again does not count") {
    backup.on_epoch_here(next, false, true);
    const auto swap = claims();
    CHECK_FALSE(swap.to.ended);
    CHECK(find<Promote>(backup.on_swap(now, won(swap.to)))->stay_paused);
  }
}

TEST_CASE("a guest that ended is run by nobody: the last output leaves, then the record says so") {
  Pair pair;
  pair.protect();
  auto actions = pair.primary.on_guest_ended(pair.soon());
  const auto last = find<TakeCheckpoint>(actions);
  REQUIRE(last);
  CHECK(last->guest_ended);
  CHECK_FALSE(find<SwapRecord>(pair.captured(*last)));
  actions = pair.primary.on_ack(pair.soon(), last->id);
  CHECK(find<ReleaseOutput>(actions));
  const auto swap = find<SwapRecord>(actions);
  REQUIRE(swap);
  CHECK(swap->to.ended);
  actions = pair.primary.on_swap(pair.soon(), won(swap->to));
  CHECK(sent<wire::Ended>(actions));
  CHECK(pair.primary.state() == PrimaryState::ended);
}

TEST_CASE("a primary stands still for another process, which reads the record before it releases") {
  Pair pair;
  pair.protect();
  auto last = find<TakeCheckpoint>(pair.primary.hold(pair.soon()));
  REQUIRE(last);
  CHECK(last->stay_paused);
  CHECK_FALSE(pair.primary.can_switch_over());
  CHECK_FALSE(find<Held>(pair.captured(*last)));
  const auto actions = pair.primary.on_ack(pair.soon(), last->id);
  CHECK(find<ReleaseOutput>(actions));
  REQUIRE(find<Held>(actions));
  CHECK_FALSE(find<TakeCheckpoint>(pair.primary.on_output_waiting(pair.soon())));
  wire::Hello hello;
  hello.backup = kBackup;
  hello.image_of = kPrimary;
  hello.newest_complete = last->id;
  SUBCASE("it did not come to that: the guest runs on") {
    const auto on = pair.primary.let_go(pair.soon());
    CHECK(find<ResumeGuest>(on));
    const auto next = find<TakeCheckpoint>(on);
    REQUIRE(next);
    CHECK_FALSE(next->stay_paused);
    CHECK_FALSE(lets_output_go(pair.captured(*next)));
    CHECK(find<ReleaseOutput>(pair.primary.on_ack(pair.soon(), next->id)));
  }
  SUBCASE("given up while the guest is still being paused: it runs on once it was") {
    last = find<TakeCheckpoint>(pair.primary.let_go(pair.soon()));
    REQUIRE(last);
    (void)pair.primary.on_capture_failed(pair.soon(), last->id, "no");
    last = find<TakeCheckpoint>(pair.primary.hold(pair.now = pair.now + Millis{30}));
    REQUIRE(last);
    CHECK_FALSE(find<ResumeGuest>(pair.primary.let_go(pair.soon())));
    CHECK(find<ResumeGuest>(pair.captured(*last)));
  }
  SUBCASE("the next process goes on with the next epoch") {
    Primary next = Primary::held(kPrimary, kBoth, last->id.epoch, {}, pair.now);
    const auto welcome = next.consider(hello);
    CHECK(welcome.accepted);
    CHECK(welcome.resume);
    const auto order = find<TakeCheckpoint>(next.on_backup(pair.soon(), hello));
    CHECK(find<ReadRecord>(next.on_tick(pair.now)));
    REQUIRE(order);
    CHECK(order->id == EpochId{kBoth.generation, last->id.epoch.next()});
    (void)next.on_captured(pair.soon(), order->id, {.resumed_at = pair.now});
    CHECK_FALSE(lets_output_go(next.on_ack(pair.soon(), order->id)));
    SUBCASE("unchanged") {
      CHECK(lets_output_go(next.on_read(pair.soon(), {ReadAnswer::Outcome::found, kBoth, {}})));
    }
    SUBCASE("somebody else's") {
      const OwnershipRecord theirs{Generation{3}, kBackup, {kBackup}, false};
      const auto fenced = next.on_read(pair.soon(), {ReadAnswer::Outcome::found, theirs, {}});
      CHECK(find<StopGuest>(fenced));
      CHECK_FALSE(lets_output_go(fenced));
    }
  }
  SUBCASE("a backup that does not come back is taken out") {
    Primary next = Primary::held(kPrimary, kBoth, last->id.epoch, {}, pair.now);
    CHECK_FALSE(find<SwapRecord>(next.on_tick(pair.now = pair.now + Millis{990})));
    (void)next.on_read(pair.now, {ReadAnswer::Outcome::found, kBoth, {}});
    CHECK(find<SwapRecord>(next.on_tick(pair.now = pair.now + Millis{20})));
  }
}

TEST_CASE("a primary bears the silence of a backup that said that it stands still, and no longer") {
  Pair pair;
  pair.protect();
  const auto answer = sent<wire::Hold>(pair.primary.on_hold(pair.soon(), Millis{500}));
  REQUIRE(answer);
  CHECK(answer->answer);
  (void)pair.primary.on_disconnected(pair.soon(), "it stands still");
  CHECK_FALSE(find<SwapRecord>(pair.primary.on_suspected(pair.soon(), "silent")));
  SUBCASE("it is back") {
    wire::Hello hello;
    hello.backup = kBackup;
    hello.image_of = kPrimary;
    hello.newest_complete = {kBoth.generation, pair.primary.newest_captured()};
    REQUIRE(pair.primary.consider(hello).resume);
    (void)pair.primary.on_backup(pair.soon(), hello);
    CHECK(pair.primary.is_protected());
    CHECK(find<SwapRecord>(pair.primary.on_suspected(pair.soon(), "silent")));
  }
  SUBCASE("it is not") {
    pair.now = pair.now + Millis{500};
    CHECK(find<SwapRecord>(pair.primary.on_tick(pair.now)));
  }
}

TEST_CASE("a backup bears the silence of a primary that said that it stands still, and no longer") {
  Backup backup(kBackup, {});
  Time now{Nanos{0}};
  wire::Welcome welcome;
  welcome.primary = kPrimary;
  CHECK_FALSE(sent<wire::Hold>(backup.on_hold(now, Millis{500})));
  (void)backup.on_welcome(now, welcome, kAlone.generation);
  (void)backup.on_epoch_complete(now, {kAlone.generation, Epoch{1}}, true, false, false);
  (void)backup.on_joined(now, kBoth.generation);
  REQUIRE(sent<wire::Hold>(backup.on_hold(now, Millis{500})));
  (void)backup.on_disconnected(now);
  (void)backup.on_suspected(now = now + Millis{200}, "silent", Nanos{0});
  CHECK_FALSE(find<ReadRecord>(backup.on_tick(now = now + Millis{200})));
  CHECK_FALSE(backup.suspects());
  CHECK_FALSE(find<ReadRecord>(backup.on_tick(now = now + Millis{100})));
  CHECK(backup.suspects());  // Now as ever: the primary's head start first.
  CHECK(find<ReadRecord>(backup.on_tick(now = now + Millis{25})));
}

TEST_CASE("a backup that took another process's place claims when it hears nobody") {
  const Backup::Image image{kPrimary, kBoth.generation, {kBoth.generation, Epoch{7}}, false};
  Time now{Nanos{0}};
  Backup backup = Backup::held(kBackup, image, {}, now);
  CHECK_FALSE(backup.can_hold());
  SUBCASE("nobody") {
    CHECK_FALSE(find<ReadRecord>(backup.on_tick(now = now + Millis{2999})));
    CHECK_FALSE(find<ReadRecord>(backup.on_tick(now = now + Millis{1})));
    CHECK(find<ReadRecord>(backup.on_tick(now = now + Millis{25})));
  }
  SUBCASE("its primary") {
    wire::Welcome welcome;
    welcome.primary = kPrimary;
    welcome.resume = true;
    const auto ack = sent<wire::Ack>(backup.on_welcome(now, welcome, kBoth.generation));
    REQUIRE(ack);
    CHECK(ack->id == EpochId{kBoth.generation, Epoch{7}});
    CHECK_FALSE(find<ReadRecord>(backup.on_tick(now = now + Millis{3000})));
    CHECK(backup.can_hold());
  }
}
