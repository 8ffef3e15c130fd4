// SPDX-License-Identifier: LGPL-2.1-or-later
// What every Arbiter must do, wherever its records are. A World holds the records; each
// implementation supplies one and runs the suite.
// A World has: a static create(), connect() (another client of the same records, for one thread),
// spoil(guest) (makes the record unreadable and returns a name that the answer must mention),
// restart() (what keeps the records goes down and comes back).
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "libft/arbiter.h"

namespace libft::conformance {

inline GuestId guest_named(const char* name) { return *GuestId::from_name(name); }

inline Incarnation replica(std::uint8_t n) {
  Incarnation incarnation;
  incarnation.host = "host-" + std::to_string(n);
  incarnation.id.fill(n);
  return incarnation;
}

inline OwnershipRecord record_of(std::uint64_t generation, std::uint8_t owner,
                                 std::vector<std::uint8_t> others = {}) {
  OwnershipRecord record;
  record.generation = Generation{generation};
  record.owner = replica(owner);
  record.in_sync = {replica(owner)};
  for (const auto other : others) record.in_sync.push_back(replica(other));
  return record;
}

inline void check_won(const SwapAnswer& answer, const OwnershipRecord& record) {
  INFO(answer.detail);
  REQUIRE(answer.outcome == SwapOutcome::won);
  CHECK(answer.record == record);
}
inline void check_lost(const SwapAnswer& answer, const OwnershipRecord& to) {
  INFO(answer.detail);
  REQUIRE(answer.outcome == SwapOutcome::lost);
  CHECK(answer.record == to);
}
inline void check_found(const ReadAnswer& answer, const OwnershipRecord& record) {
  INFO(answer.detail);
  REQUIRE(answer.outcome == ReadAnswer::Outcome::found);
  CHECK(answer.record == record);
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: a record is created once", World, arbiter_create) {
  auto world = World::create();
  const auto one = world->connect(), two = world->connect();
  const auto guest = guest_named("db");
  CHECK(one->read(guest).outcome == ReadAnswer::Outcome::missing);
  check_won(one->create(guest, record_of(1, 1)), record_of(1, 1));
  check_lost(two->create(guest, record_of(1, 2)), record_of(1, 1));
  check_lost(one->create(guest, record_of(2, 1)), record_of(1, 1));
  check_lost(one->create(guest, record_of(1, 1)), record_of(1, 1));
  check_found(two->read(guest), record_of(1, 1));
  CHECK(two->read(guest_named("db2")).outcome == ReadAnswer::Outcome::missing);
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: a swap wants the whole record", World, arbiter_swap) {
  auto world = World::create();
  const auto one = world->connect(), two = world->connect();
  const auto guest = guest_named("db");
  check_won(one->create(guest, record_of(1, 1)), record_of(1, 1));
  check_won(one->swap(guest, record_of(1, 1), record_of(2, 1, {2})), record_of(2, 1, {2}));
  // Right generation, but another list, owner or end than what stands there.
  check_lost(two->swap(guest, record_of(2, 1), record_of(3, 2)), record_of(2, 1, {2}));
  check_lost(two->swap(guest, record_of(2, 2, {1}), record_of(3, 2)), record_of(2, 1, {2}));
  auto ended = record_of(2, 1, {2});
  ended.ended = true;
  check_lost(two->swap(guest, ended, record_of(3, 2)), record_of(2, 1, {2}));
  check_won(two->swap(guest, record_of(2, 1, {2}), record_of(3, 2)), record_of(3, 2));
  check_lost(one->swap(guest, record_of(2, 1, {2}), record_of(3, 1)), record_of(3, 2));
  check_found(one->read(guest), record_of(3, 2));
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: a swap asked again is still won", World, arbiter_again) {
  auto world = World::create();
  const auto one = world->connect();
  const auto guest = guest_named("db");
  one->create(guest, record_of(1, 1, {2}));
  check_won(one->swap(guest, record_of(1, 1, {2}), record_of(2, 2)), record_of(2, 2));
  check_won(one->swap(guest, record_of(1, 1, {2}), record_of(2, 2)), record_of(2, 2));
  check_won(one->swap(guest, record_of(2, 2), record_of(3, 2, {3})), record_of(3, 2, {3}));
  check_lost(one->swap(guest, record_of(1, 1, {2}), record_of(2, 2)), record_of(3, 2, {3}));
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: what is missing is never made by a swap", World,
                          arbiter_missing) {
  auto world = World::create();
  const auto one = world->connect();
  const auto guest = guest_named("db");
  const auto answer = one->swap(guest, record_of(1, 1), record_of(2, 1));
  CHECK(answer.outcome == SwapOutcome::unknown);
  CHECK_FALSE(answer.detail.empty());
  CHECK(one->read(guest).outcome == ReadAnswer::Outcome::missing);
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: generations cannot be skipped", World, arbiter_generations) {
  auto world = World::create();
  const auto one = world->connect();
  const auto guest = guest_named("db");
  one->create(guest, record_of(1, 1));
  CHECK(one->swap(guest, record_of(1, 1), record_of(3, 1)).outcome == SwapOutcome::unknown);
  CHECK(one->swap(guest, record_of(1, 1), record_of(1, 1)).outcome == SwapOutcome::unknown);
  check_found(one->read(guest), record_of(1, 1));
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: of many who swap, one wins each generation", World,
                          arbiter_race) {
  constexpr std::uint64_t kLast = 40;
  constexpr std::uint8_t kReplicas = 4;
  auto world = World::create();
  const auto guest = guest_named("race");
  std::mutex mutex;
  std::map<std::uint64_t, std::vector<std::uint8_t>> winners;
  std::vector<std::string> unknowns;
  {
    std::vector<std::unique_ptr<Arbiter>> arbiters;
    for (int i = 0; i < kReplicas; ++i) arbiters.push_back(world->connect());
    std::vector<std::jthread> threads;
    for (std::uint8_t me = 1; me <= kReplicas; ++me) {
      threads.emplace_back([&, me] {
        Arbiter& arbiter = *arbiters[me - 1];
        auto answer = arbiter.create(guest, record_of(1, me));
        for (;;) {
          const std::uint64_t g = answer.record.generation.value;
          {
            const std::lock_guard lock(mutex);
            if (answer.outcome == SwapOutcome::won) winners[g].push_back(me);
            if (answer.outcome == SwapOutcome::unknown) unknowns.push_back(answer.detail);
          }
          if (answer.outcome == SwapOutcome::unknown || g >= kLast) return;
          answer = arbiter.swap(guest, answer.record, record_of(g + 1, me));
        }
      });
    }
  }
  for (const auto& why : unknowns) FAIL_CHECK(why);
  for (std::uint64_t g = 1; g <= kLast; ++g) {
    CAPTURE(g);
    CHECK(winners[g].size() == 1);
  }
  check_found(world->connect()->read(guest), record_of(kLast, winners[kLast].front()));
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: of many who create, one wins", World, arbiter_create_race) {
  auto world = World::create();
  const auto guest = guest_named("race");
  std::atomic<int> won{0}, lost{0};
  {
    std::vector<std::jthread> threads;
    for (std::uint8_t me = 1; me <= 4; ++me)
      threads.emplace_back([&, me, arbiter = std::shared_ptr<Arbiter>(world->connect())] {
        const auto answer = arbiter->create(guest, record_of(me, me));  // Other generations, too.
        won += answer.outcome == SwapOutcome::won;
        lost += answer.outcome == SwapOutcome::lost;
      });
  }
  CHECK(won == 1);
  CHECK(lost == 3);
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: an unreadable record is unknown, and stays", World,
                          arbiter_garbage) {
  auto world = World::create();
  const auto one = world->connect();
  const auto guest = guest_named("db");
  check_won(one->create(guest, record_of(1, 1)), record_of(1, 1));
  const std::string where = world->spoil(guest);
  const auto read = one->read(guest);
  CHECK(read.outcome == ReadAnswer::Outcome::unknown);
  CHECK_MESSAGE(read.detail.find(where) != std::string::npos, read.detail);
  const auto swap = one->swap(guest, record_of(1, 1), record_of(2, 1));
  CHECK(swap.outcome == SwapOutcome::unknown);
  CHECK_MESSAGE(swap.detail.find(where) != std::string::npos, swap.detail);
  CHECK(one->create(guest, record_of(1, 1)).outcome == SwapOutcome::unknown);
  CHECK(one->read(guest).outcome == ReadAnswer::Outcome::unknown);
}

TEST_CASE_TEMPLATE_DEFINE("arbiter: records survive a restart", World, arbiter_restart) {
  auto world = World::create();
  const auto guest = guest_named("db");
  {
    const auto one = world->connect();
    check_won(one->create(guest, record_of(1, 1)), record_of(1, 1));
    check_won(one->swap(guest, record_of(1, 1), record_of(2, 1, {2})), record_of(2, 1, {2}));
  }
  world->restart();
  check_found(world->connect()->read(guest), record_of(2, 1, {2}));
}

}  // namespace libft::conformance
