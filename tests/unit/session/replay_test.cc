// SPDX-License-Identifier: LGPL-2.1-or-later
// Two sessions whose guest is executed on both hosts: a key-value server on libft's own machine.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "guest/machine/machine_guest.h"
#include "output/frames_gate.h"
#include "unit/guest/machine/guest_image.h"
#include "unit/guest/machine/udp_frames.h"
#include "unit/session/host.h"

using namespace libft;
using namespace libft::test;
using machine::MachineGuest;
using machine::MachineGuestOptions;

namespace {

using Pair = std::array<os::ScopedFd, 2>;
Pair datagram_pair() {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0);
  return {os::ScopedFd(ends[0]), os::ScopedFd(ends[1])};
}

// A host with a machine behind a gate, and the outer end of its cable.
struct MachineHost : Host {
  os::ScopedFd outside;

  MachineHost(std::string host, const std::string& shared, Strategy strategy)
      : Host(std::move(host), shared) {
    options.strategy = strategy;
    options.hash_interval = Millis{20};
    make_replica = [this](bool standby) { return machine_replica(standby); };
  }
  ~MachineHost() { die(); }

  Replica machine_replica(bool standby) {
    Pair inner = datagram_pair(), outer = datagram_pair();
    outside = std::move(outer[1]);
    auto port = output::GuestPort::from_pair(std::move(inner[1]));
    REQUIRE(port);
    std::vector<output::GateNic> nics;
    nics.push_back(output::GateNic{"net0", std::move(*port), std::move(outer[0])});
    output::FramesGateOptions gate_options;
    gate_options.start = standby ? output::GateStart::standby : output::GateStart::held;
    auto gate = output::FramesGate::create(std::move(nics), gate_options, log);
    REQUIRE(gate);
    MachineGuestOptions machine;
    machine.machine = bare_metal("kv");
    machine.standby = standby;
    machine.nic = std::move(inner[0]);
    auto made = MachineGuest::create(std::move(machine));
    REQUIRE(made);
    MachineGuest* const exact = made->get();
    InputTap* const input = gate->get();
    return Replica{std::move(*gate), std::move(*made), input, exact};
  }

  // Until it is answered; frames may be lost at a take-over, as on any network.
  std::string ask(const std::string& text) {
    const auto frame = kv_request(text);
    for (int tries = 0; tries < 200; ++tries) {
      (void)::send(outside.get(), frame.data(), frame.size(), 0);
      pollfd ready{outside.get(), POLLIN, 0};
      while (::poll(&ready, 1, 100) == 1) {
        std::array<std::byte, 2048> bytes;
        const ssize_t got = ::recv(outside.get(), bytes.data(), bytes.size(), 0);
        if (got < 42) continue;
        const std::string answer = kv_answer(std::span(bytes).first(static_cast<std::size_t>(got)));
        if (answer != ignored_) return answer;
      }
    }
    return "(no answer)";
  }
  // A frame that the guest's announcement, or a repetition, may look like.
  std::string ignored_ = std::string(18, '\0');
};

void set_all(MachineHost& host, int from, int to) {
  for (int i = from; i < to; ++i)
    CHECK(host.ask("S key" + std::to_string(i % 40) + " v" + std::to_string(i)) == "OK");
}

}  // namespace

TEST_CASE("a guest that is executed on both hosts survives either") {
  for (const Strategy strategy : {Strategy::replay, Strategy::lockstep}) {
    CAPTURE(to_string(strategy));
    const auto folder = temporary_folder();
    // A standby learns the strategy from its primary.
    MachineHost a("a", folder, strategy), b("b", folder, Strategy::checkpoint),
        c("c", folder, Strategy::checkpoint);
    a.protect();
    set_all(a, 0, 10);
    b.stand_by(a.address);
    REQUIRE(a.reaches("protecting"));
    REQUIRE(b.reaches("in_sync"));
    set_all(a, 10, 40);
    const auto same = a.session->verify(std::chrono::seconds(20));
    CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
    CHECK(b.session->test_failover(Millis{1000}).error().code() == Code::unsupported);
    CHECK(a.session->status().strategy == to_string(strategy));
    CHECK(b.session->status().strategy == to_string(strategy));
    a.die();
    REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
    CHECK(b.ask("G key7") == "v7");
    CHECK(b.ask("G key39") == "v39");
    c.stand_by(b.address);
    REQUIRE(b.reaches("protecting"));
    REQUIRE(c.reaches("in_sync"));
    CHECK(c.session->status().strategy == to_string(strategy));
    set_all(b, 40, 50);
    REQUIRE(b.session->switch_over());
    REQUIRE(c.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
    REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::fenced; }));
    CHECK(c.ask("G key9") == "v49");
    CHECK(c.ask("G key39") == "v39");
    std::filesystem::remove_all(folder);
  }
}

TEST_CASE("logs that were lost with a connection come again, and the pair stays equal") {
  for (const Strategy strategy : {Strategy::replay, Strategy::lockstep}) {
    const auto folder = temporary_folder();
    MachineHost a("a", folder, strategy), b("b", folder, strategy);
    a.protect();
    b.stand_by(a.address);
    REQUIRE(a.reaches("protecting"));
    REQUIRE(b.reaches("in_sync"));
    const auto self = b.session->status().self;
    for (int round = 0; round < 5; ++round) {
      set_all(a, round * 5, round * 5 + 5);
      const auto before = a.session->status().reprotects;
      b.cable.cut();
      set_all(a, round * 5, round * 5 + 5);
      REQUIRE(a.eventually([&](const SessionStatus& s) { return s.reprotects > before; }));
      const auto same = a.session->verify(std::chrono::seconds(20));
      CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
    }
    CHECK(b.session->status().self == self);
    std::filesystem::remove_all(folder);
  }
}

TEST_CASE("a replica whose memory changed by itself is found out, given up and made anew") {
  const auto folder = temporary_folder();
  MachineHost a("a", folder, Strategy::lockstep), b("b", folder, Strategy::lockstep);
  MachineGuest* standby = nullptr;
  b.make_replica = [&](bool is_standby) {
    Replica made = b.machine_replica(is_standby);
    standby = static_cast<MachineGuest*>(made.guest.get());
    return made;
  };
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  set_all(a, 0, 5);
  const auto self = b.session->status().self;
  const auto memory = standby->info().memory[0].bytes;
  const std::string value = "v3";  // Where the guest keeps it, on the backup only.
  const auto bytes = std::as_bytes(std::span(value));
  auto at = std::search(memory.begin(), memory.end(), bytes.begin(), bytes.end());
  REQUIRE(at != memory.end());
  for (; at != memory.end(); at = std::search(at + 1, memory.end(), bytes.begin(), bytes.end()))
    *at = std::byte{'x'};
  // The primary's answer is right, and is not let out before the backup, made anew, gives it too.
  CHECK(a.ask("G key3") == "v3");
  REQUIRE(b.eventually([&](const SessionStatus& s) { return s.self != self; }));
  REQUIRE(a.reaches("protecting"));
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  std::filesystem::remove_all(folder);
}

TEST_CASE("a guest that cannot be stopped at a position is refused by what is missing") {
  const auto folder = temporary_folder();
  Host a("a", folder);
  a.options.strategy = Strategy::replay;
  const auto made = Session::protect(a.parts(), a.replica(false), a.options);
  REQUIRE_FALSE(made);
  CHECK(made.error().code() == Code::unsupported);
  CHECK(made.error().message().find("memory guest") != std::string::npos);
  std::filesystem::remove_all(folder);
}
