// SPDX-License-Identifier: LGPL-2.1-or-later
// The gate of a guest that runs on both hosts: single frames leave, and a follower's lead
// elsewhere.
#include <doctest/doctest.h>
#include <sys/un.h>

#include <deque>
#include <filesystem>
#include <random>

#include "support/frames_world.h"

using namespace libft;
using namespace libft::output;
using support::bytes_of;
using support::eventually;
using support::FramesWorld;
using support::kPatienceMs;
using Numbers = std::vector<std::uint32_t>;

namespace {

EpochId epoch(std::uint64_t n) { return {Generation{1}, Epoch{n}}; }

std::uint32_t number_in(std::span<const std::byte> frame) {
  std::uint32_t number = 0;
  REQUIRE(frame.size() == sizeof number);
  std::memcpy(&number, frame.data(), sizeof number);
  return number;
}

void let_out(ComparedGate& gate, std::initializer_list<std::uint64_t> numbers) {
  std::vector<FrameNo> frames;
  for (const auto number : numbers) frames.push_back(FrameNo{number});
  gate.let_out(frames);
}

HeldFrames held_frames() { return *HeldFrames::create({.bytes_max = 1u << 16}); }

std::uint32_t leave(HeldFrames& held) {
  const std::uint32_t number = number_in(held.front().bytes);
  held.pop();
  return number;
}

// Frames that a sink got, on whichever thread.
class Seen {
 public:
  void add(std::uint32_t number) {
    const std::lock_guard lock(mutex_);
    numbers_.push_back(number);
  }
  Numbers all() const {
    const std::lock_guard lock(mutex_);
    return numbers_;
  }

 private:
  mutable std::mutex mutex_;
  Numbers numbers_;
};

}  // namespace

TEST_CASE("single frames leave from the middle, epochs take the rest, nothing leaves twice") {
  HeldFrames held = held_frames();
  for (std::uint32_t n = 0; n < 6; ++n) {
    CHECK(held.next_number() == n);
    (void)held.push({0, bytes_of(n)});
  }
  CHECK_FALSE(held.due());
  held.let_out(3);
  held.let_out(0);
  held.let_out(3);
  held.let_out(99);
  CHECK(leave(held) == 3);
  CHECK(held.frames() == 5);
  CHECK(held.bytes() == 5 * sizeof(std::uint32_t));
  CHECK(leave(held) == 0);
  CHECK_FALSE(held.due());
  REQUIRE(held.seal(epoch(1)).ok());
  held.let_out(4);
  held.release(epoch(1));  // Also what was let out and did not leave yet: once.
  held.let_out(1);
  for (const std::uint32_t n : {1u, 2u, 4u, 5u}) CHECK(leave(held) == n);
  CHECK_FALSE(held.due());
  CHECK(held.frames() == 0);
  CHECK(held.bytes() == 0);
}

TEST_CASE("what an epoch let out leaves before a later single frame") {
  HeldFrames held = held_frames();
  for (std::uint32_t n = 0; n < 2; ++n) (void)held.push({0, bytes_of(n)});
  REQUIRE(held.seal(epoch(1)).ok());
  for (std::uint32_t n = 2; n < 4; ++n) (void)held.push({0, bytes_of(n)});
  held.release(epoch(1));
  held.let_out(3);
  for (const std::uint32_t n : {0u, 1u, 3u}) CHECK(leave(held) == n);
  CHECK_FALSE(held.due());
  CHECK(held.frames() == 1);
  CHECK(held.discard() == 1);
  held.let_out(2);
  CHECK_FALSE(held.due());
  const std::uint32_t four = 4;
  CHECK(held.next_number() == 4);
  CHECK(held.push({0, bytes_of(four)}) == HeldFrames::Pushed::first_waiting);
}

TEST_CASE("many frames, let out in any way, leave once each and agree with a plain model") {
  HeldFrames held = held_frames();
  std::mt19937 random(7);
  std::deque<std::uint32_t> waiting;
  Numbers left, expected;
  std::uint64_t sealed = 0;
  const auto drain = [&] {
    while (held.due()) left.push_back(leave(held));
  };
  for (std::uint32_t n = 0; n < 20000; ++n) {
    REQUIRE(held.push({0, bytes_of(n)}) != HeldFrames::Pushed::no_room);
    waiting.push_back(n);
    if (random() % 3 == 0) {
      const std::size_t at = random() % waiting.size();
      expected.push_back(waiting[at]);
      held.let_out(waiting[at]);
      waiting.erase(waiting.begin() + std::ptrdiff_t(at));
    }
    if (random() % 50 == 0) {
      drain();
      REQUIRE(held.seal(epoch(++sealed)).ok());
      held.release(epoch(sealed));
      expected.insert(expected.end(), waiting.begin(), waiting.end());
      waiting.clear();
    }
    if (random() % 2 == 0) drain();
    REQUIRE(held.frames() >= waiting.size());
  }
  drain();
  CHECK(left == expected);
  CHECK(held.frames() == waiting.size());
}

TEST_CASE("the judge sees what is held, as it was sent, and what it names leaves") {
  FramesWorld world;
  Seen seen;
  world.gate().set_judge([&](FrameNo number, unsigned nic, std::span<const std::byte> frame,
                             std::vector<FrameNo>& leave) {
    CHECK(nic == 0);
    seen.add(number_in(frame));
    if (number.value % 2 == 1) leave.push_back(FrameNo{number.value - 1});
  });
  world.gate().set_rewrite({{}, [](unsigned, std::span<std::byte> frame) {
                              const std::uint32_t changed = number_in(frame) + 1000;
                              std::memcpy(frame.data(), &changed, sizeof changed);
                            }});
  for (std::uint32_t n = 0; n < 6; ++n) REQUIRE(world.send(n));
  REQUIRE(world.wait_for(3));
  CHECK(world.arrived() == Numbers{1000, 1002, 1004});
  CHECK(seen.all() == Numbers{0, 1, 2, 3, 4, 5});
  let_out(world.gate(), {5, 4, 1});
  REQUIRE(world.wait_for(5));
  CHECK(world.arrived() == Numbers{1000, 1002, 1004, 1005, 1001});
  CHECK(world.gate().statistics().packets_held == 1);

  SUBCASE("the rest goes with its epoch") {
    REQUIRE(world.gate().seal(epoch(1)).ok());
    REQUIRE(world.gate().release(epoch(1)).ok());
    REQUIRE(world.wait_for(6));
    CHECK(world.arrived().back() == 1003);
  }
  SUBCASE("what comes while a line is drawn is judged as well") {
    for (std::uint32_t n = 6; n < 8; ++n) REQUIRE(world.send(n));
    REQUIRE(world.gate().seal(epoch(1)).ok());
    REQUIRE(world.wait_for(6));
    CHECK(world.arrived().back() == 1006);
    world.gate().discard();
    let_out(world.gate(), {3, 7});
    CHECK(world.arrived().size() == 6);
  }
  SUBCASE("an open gate asks nobody") {
    REQUIRE(world.gate().open().ok());
    REQUIRE(world.wait_for(6));
    REQUIRE(world.send(6));
    REQUIRE(world.wait_for(7));
    CHECK(seen.all().size() == 6);
  }
}

TEST_CASE("may_release is asked for single frames too") {
  std::atomic<bool> allowed = false;
  FramesGateOptions options;
  options.may_release = [&] { return allowed.load(); };
  FramesWorld world(options);
  REQUIRE(world.send(1));
  REQUIRE(eventually([&] { return world.gate().statistics().packets_held == 1; }));
  let_out(world.gate(), {0});
  CHECK(world.arrived().empty());
  allowed = true;
  REQUIRE(world.wait_for(1));
}

TEST_CASE("a follower is heard by the sink alone, is told what it is told, and ends with open()") {
  FramesGateOptions options;
  options.start = GateStart::standby;
  FramesWorld world(options);
  Seen said;
  std::atomic<unsigned> rewritten = 0;
  const auto add = [](std::span<std::byte> frame, std::uint32_t what) {
    const std::uint32_t changed = number_in(frame) + what;
    std::memcpy(frame.data(), &changed, sizeof changed);
  };
  world.gate().set_rewrite({[&](unsigned, std::span<std::byte> frame) { add(frame, 500); },
                            [&](unsigned, std::span<std::byte> frame) {
                              ++rewritten;
                              add(frame, 1000);
                            }});
  REQUIRE(world.send(1));  // Of whoever was there before.
  REQUIRE(eventually([&] { return world.gate().statistics().packets_held == 1; }));
  world.gate().follow(
      [&](unsigned, std::span<const std::byte> frame) { said.add(number_in(frame)); });
  CHECK(world.gate().statistics().packets_held == 0);
  for (std::uint32_t n = 2; n < 5; ++n) REQUIRE(world.send(n));
  REQUIRE(eventually([&] { return said.all().size() == 3; }));
  CHECK(said.all() == Numbers{2, 3, 4});
  CHECK(eventually([&] { return rewritten == 4; }));
  CHECK(world.arrived().empty());

  REQUIRE(world.gate().inject_input(0, bytes_of(7)).ok());
  std::uint32_t got = 0;
  REQUIRE(support::wait_readable(world.guest_fd(), POLLIN, kPatienceMs));
  REQUIRE(::recv(world.guest_fd(), &got, sizeof got, 0) == sizeof got);
  CHECK(got == 507);

  world.gate().follow({});
  REQUIRE(world.send(5));
  REQUIRE(eventually([&] { return rewritten == 5; }));
  CHECK(said.all().size() == 3);
  REQUIRE(world.gate().open().ok());
  REQUIRE(world.send(6));
  REQUIRE(world.wait_for(1));
  CHECK(world.arrived() == Numbers{1006});
}

TEST_CASE("a follower that takes another's place is not blamed for what that one said") {
  const auto folder =
      std::filesystem::temp_directory_path() / ("libft-follow-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string gate_path = folder / "gate", guest_path = folder / "guest";
  const auto guest_at = [&](const std::string& path) {
    os::ScopedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    return fd;
  };
  const auto send_to_gate = [&](const os::ScopedFd& from, std::uint32_t number) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, gate_path.data(), gate_path.size());
    return ::sendto(from.get(), &number, sizeof number, MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&address), sizeof address) > 0;
  };
  {
    auto port = GuestPort::bind(gate_path, guest_path);
    REQUIRE(port);
    support::MemoryLog log;
    auto link = support::socket_pair();
    std::vector<GateNic> nics;
    nics.push_back({"net0", std::move(*port), std::move(link.gates)});
    FramesGateOptions options;
    options.start = GateStart::standby;
    auto gate = FramesGate::create(std::move(nics), options, log);
    REQUIRE(gate);

    const os::ScopedFd first = guest_at(guest_path);
    Seen seen_first, seen_second;
    (*gate)->follow([&](unsigned, auto frame) { seen_first.add(number_in(frame)); });
    REQUIRE(send_to_gate(first, 1));
    REQUIRE(eventually([&] { return !seen_first.all().empty(); }));

    // Another socket under the same name, which the first one's owner never hears of.
    const os::ScopedFd second = guest_at(folder / "second");
    std::filesystem::rename(folder / "second", guest_path);
    (*gate)->follow([&](unsigned, auto frame) { seen_second.add(number_in(frame)); });
    CHECK_FALSE(send_to_gate(first, 2));
    REQUIRE(send_to_gate(second, 3));
    REQUIRE(eventually([&] { return !seen_second.all().empty(); }));
    CHECK(seen_second.all() == Numbers{3});
    CHECK(seen_first.all() == Numbers{1});
    REQUIRE((*gate)->inject_input(0, bytes_of(9)).ok());
    std::uint32_t got = 0;
    REQUIRE(support::wait_readable(second.get(), POLLIN, kPatienceMs));
    REQUIRE(::recv(second.get(), &got, sizeof got, 0) == sizeof got);
    CHECK(got == 9);
  }
  std::filesystem::remove_all(folder);
}
