// SPDX-License-Identifier: LGPL-2.1-or-later
// What every OutputGate must do, whatever the output is. A World is a guest, the gate, and somebody
// outside who remembers what arrived; each implementation supplies one and runs the suite.
// A World has: a static create(epochs_max, bytes_max), gate(), send(number) (false: the guest found
// its link full), arrived() (the numbers that left so far), and wait_for(count). Where the gate's
// kind sets the number of epochs, it has that number as kEpochsMax as well.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "libft/output_gate.h"

namespace libft::conformance {

using Numbers = std::vector<std::uint32_t>;

inline EpochId epoch(std::uint64_t n, std::uint64_t generation = 1) {
  return {Generation{generation}, Epoch{n}};
}

inline Numbers range(std::uint32_t first, std::uint32_t end) {
  Numbers numbers(end - first);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

template <class World>
void send_range(World& world, std::uint32_t first, std::uint32_t end) {
  for (std::uint32_t n = first; n < end; ++n) REQUIRE(world.send(n));
}

template <class World>
constexpr std::uint32_t epochs_of(std::uint32_t wanted) {
  if constexpr (requires { World::kEpochsMax; }) {
    return std::min<std::uint32_t>(wanted, World::kEpochsMax);
  } else {
    return wanted;
  }
}

TEST_CASE_TEMPLATE_DEFINE("gate: nothing leaves before its release", World, gate_release) {
  auto world = World::create(8, 1 << 20);
  OutputGate& gate = world->gate();
  send_range(*world, 0, 10);  // A gate starts held.
  REQUIRE(gate.seal(epoch(1)).ok());
  CHECK(gate.statistics().packets_held == 10);
  CHECK(gate.statistics().bytes_held > 0);
  send_range(*world, 10, 15);
  REQUIRE(gate.seal(epoch(2)).ok());
  send_range(*world, 15, 20);
  REQUIRE(gate.seal(epoch(3)).ok());
  CHECK(world->arrived().empty());

  SUBCASE("in order, one epoch at a time") {
    REQUIRE(gate.release(epoch(1)).ok());
    CHECK(world->arrived() == range(0, 10));
    REQUIRE(gate.release(epoch(2)).ok());
    CHECK(world->arrived() == range(0, 15));
  }
  SUBCASE("an epoch takes the earlier ones with it") {
    REQUIRE(gate.release(epoch(2)).ok());
    CHECK(world->arrived() == range(0, 15));
  }
  SUBCASE("twice is once, and an older one is nothing new") {
    REQUIRE(gate.release(epoch(2)).ok());
    REQUIRE(gate.release(epoch(2)).ok());
    REQUIRE(gate.release(epoch(1)).ok());
    CHECK(world->arrived() == range(0, 15));
    CHECK(gate.statistics().packets_held == 5);
    CHECK(gate.statistics().packets_released == 15);
  }
  SUBCASE("the same number under an older generation is an older epoch") {
    REQUIRE(gate.release(epoch(9, 0)).ok());
    CHECK(world->arrived().empty());
    REQUIRE(gate.seal(epoch(1, 2)).ok());
    REQUIRE(gate.release(epoch(1, 2)).ok());
    CHECK(world->arrived() == range(0, 20));
  }
  SUBCASE("output that is in no sealed epoch stays") {
    send_range(*world, 20, 25);
    REQUIRE(gate.release(epoch(99)).ok());
    CHECK(world->arrived() == range(0, 20));
    REQUIRE(gate.seal(epoch(100)).ok());
    CHECK(gate.statistics().packets_held == 5);
  }
}

TEST_CASE_TEMPLATE_DEFINE("gate: a release lets out one epoch, the next one stays", World,
                          gate_release_one) {
  auto world = World::create(1, 1 << 20);
  OutputGate& gate = world->gate();
  send_range(*world, 0, 10);  // A gate starts held.
  CHECK(world->arrived().empty());
  REQUIRE(gate.seal(epoch(1)).ok());
  CHECK(gate.statistics().packets_held == 10);
  CHECK(gate.statistics().bytes_held > 0);
  send_range(*world, 10, 15);
  CHECK(world->arrived().empty());
  REQUIRE(gate.release(epoch(0)).ok());
  REQUIRE(gate.release(epoch(9, 0)).ok());  // Of an older generation.
  CHECK(world->arrived().empty());
  REQUIRE(gate.release(epoch(1)).ok());
  CHECK(world->arrived() == range(0, 10));
  REQUIRE(gate.release(epoch(99)).ok());  // What is in no sealed epoch stays.
  CHECK(world->arrived() == range(0, 10));
  CHECK(gate.statistics().packets_released == 10);
  REQUIRE(gate.seal(epoch(100)).ok());
  CHECK(gate.statistics().packets_held == 5);
  REQUIRE(gate.release(epoch(100)).ok());
  REQUIRE(gate.release(epoch(100)).ok());
  CHECK(world->arrived() == range(0, 15));
  CHECK(gate.statistics().packets_held == 0);
}

TEST_CASE_TEMPLATE_DEFINE("gate: ids ascend, and the limit of epochs is kept", World, gate_epochs) {
  auto world = World::create(3, 1 << 20);
  OutputGate& gate = world->gate();
  const std::uint32_t limit = gate.limits().epochs_held_max;
  CHECK(limit == epochs_of<World>(3));
  for (std::uint32_t n = 1; n <= limit; ++n) {
    REQUIRE(world->send(n));
    REQUIRE(gate.seal(epoch(n)).ok());
  }
  CHECK(gate.seal(epoch(limit)).code() == Code::invalid);
  CHECK(gate.seal(epoch(limit + 1)).code() == Code::exhausted);
  REQUIRE(gate.release(epoch(1)).ok());
  CHECK(world->arrived() == Numbers{1});
  REQUIRE(world->send(limit + 1));
  REQUIRE(gate.seal(epoch(limit + 1)).ok());
  REQUIRE(gate.release(epoch(limit + 1)).ok());
  CHECK(world->arrived() == range(1, limit + 2));
}

TEST_CASE_TEMPLATE_DEFINE("gate: discard drops all that is held, and holds", World, gate_discard) {
  auto world = World::create(8, 1 << 20);
  OutputGate& gate = world->gate();
  send_range(*world, 0, 4);
  REQUIRE(gate.seal(epoch(1)).ok());
  send_range(*world, 4, 7);
  gate.discard();
  CHECK(gate.statistics().packets_discarded == 7);
  CHECK(gate.statistics().packets_held == 0);
  REQUIRE(gate.release(epoch(1)).ok());
  REQUIRE(world->send(7));
  REQUIRE(gate.seal(epoch(2)).ok());
  CHECK(world->arrived().empty());
  REQUIRE(gate.release(epoch(2)).ok());
  CHECK(world->arrived() == Numbers{7});
}

TEST_CASE_TEMPLATE_DEFINE("gate: open lets everything out, hold takes it back", World, gate_open) {
  auto world = World::create(8, 1 << 20);
  OutputGate& gate = world->gate();
  send_range(*world, 0, 3);
  REQUIRE(gate.seal(epoch(1)).ok());
  send_range(*world, 3, 6);
  REQUIRE(gate.open().ok());
  send_range(*world, 6, 9);
  REQUIRE(world->wait_for(9));
  REQUIRE(gate.seal(epoch(2)).ok());  // Nothing to hold, nothing to tell apart.
  CHECK(gate.statistics().packets_held == 0);
  REQUIRE(gate.hold().ok());
  send_range(*world, 9, 12);
  REQUIRE(gate.seal(epoch(3)).ok());
  CHECK(world->arrived() == range(0, 9));
  REQUIRE(gate.release(epoch(3)).ok());
  CHECK(world->arrived() == range(0, 12));
}

TEST_CASE_TEMPLATE_DEFINE("gate: the waiting sink is called once for each epoch with output", World,
                          gate_waiting) {
  auto world = World::create(8, 1 << 20);
  OutputGate& gate = world->gate();
  std::mutex mutex;
  std::condition_variable changed;
  int calls = 0;
  gate.set_waiting_sink([&] {
    const std::lock_guard lock(mutex);
    ++calls;
    changed.notify_all();
  });
  const auto called = [&](int wanted) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return calls >= wanted; });
  };
  for (int n = 1; n <= 3; ++n) {
    send_range(*world, 0, 5);
    REQUIRE(called(n));
    REQUIRE(gate.seal(epoch(static_cast<std::uint64_t>(n))).ok());
    if (epochs_of<World>(3) < 3) REQUIRE(gate.release(epoch(static_cast<std::uint64_t>(n))).ok());
    const std::lock_guard lock(mutex);
    CHECK(calls == n);
  }
  gate.set_waiting_sink({});
  const std::lock_guard lock(mutex);
  CHECK(calls == 3);
}

TEST_CASE_TEMPLATE_DEFINE("gate: it is bounded, and a full gate loses nothing", World,
                          gate_bounded) {
  auto world = World::create(8, 16 << 10);
  OutputGate& gate = world->gate();
  CHECK(gate.limits().bytes_held_max == 16 << 10);
  std::uint32_t sent = 0;
  while (sent < 1'000'000 && world->send(sent)) ++sent;
  REQUIRE(sent < 1'000'000);  // The guest was stopped by its link, not by our patience.
  REQUIRE(sent * sizeof(sent) >= 16 << 10);
  REQUIRE(gate.seal(epoch(1)).ok());  // Whatever was on its way has room.
  CHECK(world->arrived().empty());
  REQUIRE(gate.release(epoch(1)).ok());
  REQUIRE(world->wait_for(sent));
  REQUIRE(world->send(sent));  // And the guest goes on.
  REQUIRE(gate.seal(epoch(2)).ok());
  REQUIRE(gate.release(epoch(2)).ok());
  REQUIRE(world->wait_for(sent + 1));
  CHECK(world->arrived() == range(0, sent + 1));
  CHECK(gate.statistics().packets_dropped == 0);
}

TEST_CASE_TEMPLATE_DEFINE("gate: 100000 frames in 1000 epochs, none lost, none early", World,
                          gate_many) {
  auto world = World::create(8, 1 << 20);
  OutputGate& gate = world->gate();
  const std::uint32_t in_flight = epochs_of<World>(3);
  for (std::uint32_t n = 1; n <= 1000; ++n) {
    send_range(*world, (n - 1) * 100, n * 100);
    if (n > in_flight) {
      REQUIRE(gate.release(epoch(n - in_flight)).ok());
      REQUIRE(world->wait_for((n - in_flight) * 100));
      REQUIRE(world->arrived().size() == (n - in_flight) * 100);
    }
    REQUIRE(gate.seal(epoch(n)).ok());
  }
  REQUIRE(gate.release(epoch(1000)).ok());
  REQUIRE(world->wait_for(100'000));
  CHECK(world->arrived() == range(0, 100'000));
  CHECK(gate.statistics().packets_dropped == 0);
  CHECK(gate.statistics().packets_released == 100'000);
  CHECK(gate.statistics().packets_held == 0);
  CHECK(gate.statistics().bytes_held == 0);
}

}  // namespace libft::conformance

#define FT_GATE_SUITE(World)                          \
  TEST_CASE_TEMPLATE_INVOKE(gate_release, World);     \
  TEST_CASE_TEMPLATE_INVOKE(gate_release_one, World); \
  TEST_CASE_TEMPLATE_INVOKE(gate_epochs, World);      \
  TEST_CASE_TEMPLATE_INVOKE(gate_discard, World);     \
  TEST_CASE_TEMPLATE_INVOKE(gate_open, World);        \
  TEST_CASE_TEMPLATE_INVOKE(gate_waiting, World);     \
  TEST_CASE_TEMPLATE_INVOKE(gate_bounded, World);     \
  TEST_CASE_TEMPLATE_INVOKE(gate_many, World)

// For a gate that holds one epoch, and whose kind cannot make the guest wait: its own tests say
// what it does at its limit.
#define FT_GATE_SUITE_ONE_EPOCH(World)                \
  TEST_CASE_TEMPLATE_INVOKE(gate_release_one, World); \
  TEST_CASE_TEMPLATE_INVOKE(gate_epochs, World);      \
  TEST_CASE_TEMPLATE_INVOKE(gate_discard, World);     \
  TEST_CASE_TEMPLATE_INVOKE(gate_open, World);        \
  TEST_CASE_TEMPLATE_INVOKE(gate_waiting, World);     \
  TEST_CASE_TEMPLATE_INVOKE(gate_many, World)
