// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include <barrier>
#include <condition_variable>
#include <numeric>
#include <thread>

#include "support/frames_world.h"

using namespace libft;
using namespace libft::output;
using support::bytes_of;
using support::eventually;
using support::FramesWorld;
using support::kPatienceMs;

namespace {

EpochId epoch(std::uint64_t n) { return {Generation{1}, Epoch{n}}; }

bool receive(int fd, std::uint32_t* number, int patience_ms = kPatienceMs) {
  return support::wait_readable(fd, POLLIN, patience_ms) &&
         ::recv(fd, number, sizeof *number, 0) == sizeof *number;
}

}  // namespace

TEST_CASE("a seal is exact while a guest on another thread sends as fast as it can") {
  FramesWorld world;
  constexpr std::uint64_t kEpochs = 300;
  std::barrier pause(2);
  std::vector<std::uint32_t> sent_at_pause(kEpochs + 1, 0);
  std::thread guest([&] {
    std::uint32_t number = 0;
    for (std::uint64_t n = 1; n <= kEpochs; ++n) {
      for (std::uint64_t i = 0; i < 40 + n % 50; ++i) {
        if (!world.send(number)) break;
        ++number;
      }
      sent_at_pause[n] = number;
      pause.arrive_and_wait();  // Paused...
      pause.arrive_and_wait();  // ...and resumed.
    }
  });
  for (std::uint64_t n = 1; n <= kEpochs; ++n) {
    pause.arrive_and_wait();
    REQUIRE(world.gate().seal(epoch(n)).ok());
    pause.arrive_and_wait();
    REQUIRE(world.gate().release(epoch(n)).ok());
    REQUIRE(world.wait_for(sent_at_pause[n]));
    REQUIRE(world.arrived().size() == sent_at_pause[n]);
  }
  guest.join();
  std::vector<std::uint32_t> all(sent_at_pause[kEpochs]);
  std::iota(all.begin(), all.end(), 0u);
  CHECK(world.arrived() == all);
  CHECK(world.gate().statistics().packets_dropped == 0);
}

TEST_CASE("may_release is asked before each frame, and its no holds until it says yes") {
  std::atomic<int> allowed = 3;
  FramesGateOptions options;
  options.may_release = [&] { return allowed.fetch_sub(1) > 0; };
  FramesWorld world(options);
  for (std::uint32_t n = 0; n < 8; ++n) REQUIRE(world.send(n));
  REQUIRE(world.gate().seal(epoch(1)).ok());
  REQUIRE(world.gate().release(epoch(1)).ok());
  CHECK(world.arrived().size() == 3);
  CHECK(world.gate().statistics().packets_held == 5);

  SUBCASE("the pump asks again") {
    allowed = 1000;
    REQUIRE(world.wait_for(8));
  }
  SUBCASE("a fenced replica discards what was released and not written") {
    world.gate().discard();
    allowed = 1000;
    CHECK(world.gate().statistics().packets_discarded == 5);
    REQUIRE(world.send(99));
    REQUIRE(world.gate().seal(epoch(2)).ok());
    REQUIRE(world.gate().release(epoch(2)).ok());
    REQUIRE(world.wait_for(4));
    CHECK(world.arrived().back() == 99);
  }
}

TEST_CASE("what comes in reaches the guest at once, held or open, and the input sink sees it") {
  FramesWorld world;
  std::mutex mutex;
  std::vector<std::uint32_t> seen;
  world.gate().set_input_sink([&](std::span<const std::byte> frame, unsigned nic) {
    const std::lock_guard lock(mutex);
    std::uint32_t number = 0;
    std::memcpy(&number, frame.data(), sizeof number);
    seen.push_back(number + nic);
  });
  for (std::uint32_t n = 0; n < 50; ++n) {
    REQUIRE(::send(world.outside_fd(), &n, sizeof n, 0) > 0);
    std::uint32_t got = 0;
    REQUIRE(receive(world.guest_fd(), &got));
    CHECK(got == n);
    if (n == 25) REQUIRE(world.gate().open().ok());
  }
  const std::lock_guard lock(mutex);
  CHECK(seen.size() == 50);
  CHECK(seen.back() == 49);
  CHECK(world.gate().statistics().packets_in == 50);
}

TEST_CASE("a recorded frame is delivered again, a bad one refused") {
  FramesWorld world;
  REQUIRE(world.gate().inject_input(0, bytes_of(41)).ok());
  std::uint32_t got = 0;
  REQUIRE(receive(world.guest_fd(), &got));
  CHECK(got == 41);
  CHECK(world.gate().inject_input(1, bytes_of(41)).code() == Code::invalid);
  const std::vector<std::byte> huge(kFrameBytesMax + 1);
  CHECK(world.gate().inject_input(0, huge).code() == Code::invalid);
}

TEST_CASE("on standby nothing comes in and nothing leaves; open() ends it") {
  FramesGateOptions options;
  options.start = GateStart::standby;
  FramesWorld world(options);
  std::uint32_t number = 1;
  REQUIRE(::send(world.outside_fd(), &number, sizeof number, 0) > 0);
  REQUIRE(world.send(2));  // QEMU's announcement may come before open().
  REQUIRE(eventually([&] { return world.gate().statistics().packets_held == 1; }));
  // The pump has read the incoming frame when the socket takes no more of our account for it.
  REQUIRE(eventually([&] {
    int queued = 0;
    return ::ioctl(world.outside_fd(), TIOCOUTQ, &queued) == 0 && queued == 0;
  }));
  REQUIRE(world.gate().open().ok());
  REQUIRE(world.wait_for(1));
  CHECK(world.arrived() == std::vector<std::uint32_t>{2});
  number = 3;
  REQUIRE(::send(world.outside_fd(), &number, sizeof number, 0) > 0);
  std::uint32_t got = 0;
  REQUIRE(receive(world.guest_fd(), &got));
  CHECK(got == 3);
  CHECK(world.gate().statistics().packets_in == 1);
  CHECK(world.gate().statistics().packets_dropped == 0);
}

TEST_CASE("a promotion delivers what came in on standby, and what comes from then on") {
  FramesGateOptions options;
  options.start = GateStart::standby;
  FramesWorld world(options);
  const auto say = [&](std::uint32_t number) {
    REQUIRE(::send(world.outside_fd(), &number, sizeof number, 0) > 0);
    REQUIRE(eventually([&] {  // As above.
      int queued = 0;
      return ::ioctl(world.outside_fd(), TIOCOUTQ, &queued) == 0 && queued == 0;
    }));
  };
  const auto hears = [&](std::uint32_t wanted) {
    std::uint32_t got = 0;
    return receive(world.guest_fd(), &got) && got == wanted;
  };
  say(1);
  say(2);
  CHECK(world.gate().deliver_recent(std::chrono::minutes{1}) <= 2);  // The pump may have one in hand.
  CHECK(hears(1));
  CHECK(hears(2));
  say(3);  // Before open(), which may take a while.
  CHECK(hears(3));
  CHECK(world.gate().deliver_recent(std::chrono::minutes{1}) == 0);
  REQUIRE(world.gate().open().ok());
  say(4);
  CHECK(hears(4));
  CHECK(world.gate().deliver_recent(std::chrono::minutes{1}) == 0);
}

TEST_CASE("what is older than the primary's silence was not said to a dead host") {
  FramesGateOptions options;
  options.start = GateStart::standby;
  FramesWorld world(options);
  std::uint32_t number = 1;
  REQUIRE(::send(world.outside_fd(), &number, sizeof number, 0) > 0);
  REQUIRE(eventually([&] {
    int queued = 0;
    return ::ioctl(world.outside_fd(), TIOCOUTQ, &queued) == 0 && queued == 0;
  }));
  CHECK(world.gate().deliver_recent(Nanos{0}) == 0);
}

TEST_CASE("a guest that does not read finds its frames later, in order, up to the backlog") {
  FramesGateOptions options;
  options.backlog_bytes_max = 64 << 10;
  FramesWorld world(options);
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t reported = 0;
  world.gate().set_drop_sink([&](const GateDrop& drop) {
    CHECK(drop.reason == DropReason::guest_queue_full);
    const std::lock_guard lock(mutex);
    reported += drop.frames;
    changed.notify_all();
  });
  std::uint32_t sent = 0;
  while (world.gate().statistics().packets_dropped == 0) {
    REQUIRE(world.gate().inject_input(0, bytes_of(sent)).ok());
    ++sent;
    REQUIRE(sent < 1'000'000);
  }
  {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::milliseconds(kPatienceMs),
                             [&] { return reported == 1; }));
  }
  for (std::uint32_t n = 0; n + 1 < sent; ++n) {  // All but the last one.
    std::uint32_t got = 0;
    REQUIRE(receive(world.guest_fd(), &got));
    REQUIRE(got == n);
  }
  CHECK(world.gate().statistics().packets_in == sent - 1);
}

TEST_CASE("frames that the link refuses are counted and reported") {
  FramesWorld world;
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t reported = 0;
  world.gate().set_drop_sink([&](const GateDrop& drop) {
    CHECK(drop.reason == DropReason::link_refused);
    const std::lock_guard lock(mutex);
    reported += drop.frames;
    changed.notify_all();
  });
  for (std::uint32_t n = 0; n < 5; ++n) REQUIRE(world.send(n));
  REQUIRE(world.gate().seal(epoch(1)).ok());
  world.close_outside();
  REQUIRE(world.gate().release(epoch(1)).ok());
  CHECK(world.gate().statistics().packets_dropped == 5);
  CHECK(world.gate().statistics().packets_released == 0);
  CHECK(world.gate().statistics().packets_held == 0);
  std::unique_lock lock(mutex);
  CHECK(changed.wait_for(lock, std::chrono::milliseconds(kPatienceMs),
                         [&] { return reported == 5; }));
}

TEST_CASE("a link that is full for a while loses nothing") {
  FramesWorld world;
  constexpr std::uint32_t kFrames = 20'000;  // Far beyond what the socket outside takes.
  for (std::uint32_t n = 0; n < kFrames; ++n) REQUIRE(world.send(n));
  REQUIRE(world.gate().seal(epoch(1)).ok());
  REQUIRE(world.gate().release(epoch(1)).ok());
  CHECK(world.gate().statistics().packets_held > 0);
  REQUIRE(world.wait_for(kFrames));
  CHECK(world.arrived().size() == kFrames);
  CHECK(world.gate().statistics().packets_dropped == 0);
}

TEST_CASE("options that cannot be are refused") {
  support::MemoryLog log;
  CHECK(FramesGate::create({}, {}, log));  // A guest without NICs says nothing: nothing to hold.
  auto guest = support::socket_pair();
  auto link = support::socket_pair();
  auto port = GuestPort::from_pair(std::move(guest.gates));
  REQUIRE(port);
  std::vector<GateNic> nics;
  nics.push_back({"net0", std::move(*port), std::move(link.gates)});
  FramesGateOptions options;
  options.epochs_held_max = 0;
  const auto gate = FramesGate::create(std::move(nics), options, log);
  REQUIRE_FALSE(gate);
  CHECK(gate.error().code() == Code::invalid);
}
