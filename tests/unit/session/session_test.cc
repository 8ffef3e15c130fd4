// SPDX-License-Identifier: LGPL-2.1-or-later
// Two sessions in one process, over real threads, sockets and heartbeats, with guests in memory:
// the wiring. What may never happen is the simulation's subject.
#include "libft/session.h"

#include <doctest/doctest.h>

#include "unit/session/host.h"

using namespace libft;
using namespace libft::test;

TEST_CASE("a pair protects, verifies, switches over and is protected again") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  CHECK(a.session->verify(Millis{100}).error().code() == Code::refused);
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  for (int i = 0; i < 20; ++i) a.guest->step(40);
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  CHECK(b.session->test_failover(std::chrono::seconds(20)));
  CHECK(b.session->switch_over().code() == Code::refused);
  const auto steps = a.guest->steps_done();
  REQUIRE(a.session->switch_over());
  REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  REQUIRE(a.eventually([](const SessionStatus& s) { return s.role == Role::fenced; }));
  CHECK(b.guest->running());
  CHECK_FALSE(a.guest->running());
  CHECK(b.guest->steps_done() == steps);

  Host c("c", folder);
  c.stand_by(b.address);
  REQUIRE(b.reaches("protecting"));
  REQUIRE(b.session->unprotect());
  REQUIRE(b.reaches("solo"));
  std::filesystem::remove_all(folder);
}

TEST_CASE(
    "when the primary falls silent the backup takes over; when the backup does, the primary goes "
    "on") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder), c("c", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  a.guest->step(100);
  a.die();
  REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  CHECK(b.guest->running());
  CHECK(b.session->status().takeover_ms < 1000);
  c.stand_by(b.address);
  REQUIRE(b.reaches("protecting"));
  c.die();
  REQUIRE(b.reaches("solo"));
  CHECK(b.guest->running());
  std::filesystem::remove_all(folder);
}

TEST_CASE("a connection that breaks is made anew, and nothing is lost with it") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto self = b.session->status().self;
  for (int round = 0; round < 5; ++round) {
    a.guest->step(60);
    const auto before = a.session->status().reprotects;
    b.cable.cut();
    a.guest->step(60);
    REQUIRE(a.eventually([&](const SessionStatus& s) { return s.reprotects > before; }));
    const auto same = a.session->verify(std::chrono::seconds(20));
    CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  }
  CHECK(b.session->status().self == self);  // It went on from its image each time.
  CHECK(a.session->status().reprotects >= 5);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a verification names the pages that differ") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto first = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(first, (first ? "" : first.error().to_string()));
  for (const std::size_t page : {7, 300})  // As nobody writes whom the driver hears of.
    a.guest->info().memory[0].bytes[page * guest::MemoryGuest::kPageBytes] ^= std::byte{1};
  const auto differs = a.session->verify(std::chrono::seconds(20));
  REQUIRE_FALSE(differs);
  CHECK(differs.error().code() == Code::corrupt);
  CHECK_MESSAGE(differs.error().message().ends_with("2 pages differ: 0x7 (ram), 0x12c (ram)"),
                differs.error().message());
  CHECK(a.session->status().state == "protecting");
  std::filesystem::remove_all(folder);
}

TEST_CASE("a verification compares what was captured, not what was written after it") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  std::atomic<bool> events{false};
  // As a hypervisor leaves events in a guest that stands still, unlogged: on a page that the guest
  // writes whenever it handles events, and so has written in this epoch.
  a.in_the_pause = [&] {
    if (events) a.guest->info().memory[0].bytes[7 * guest::MemoryGuest::kPageBytes] ^= std::byte{1};
  };
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  REQUIRE(a.guest->step(512) == 512);  // All pages.
  events = true;
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  events = false;
  std::filesystem::remove_all(folder);
}

TEST_CASE("a connection whose way falls silent is made by another one, under the same record") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto before = a.session->status();
  b.cable.silent(b.clock.now());
  a.guest->step(60);
  REQUIRE(a.eventually([&](const SessionStatus& s) { return s.reprotects > before.reprotects; }));
  CHECK(b.other_ways == 1);
  CHECK(a.session->status().generation == before.generation);
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  std::filesystem::remove_all(folder);
}

TEST_CASE("a guest that ends on purpose is recorded as ended, and its backup stands down") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  a.guest->happen(GuestEvent::Kind::ended, "poweroff");
  REQUIRE(a.reaches("ended"));
  REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::ended; }));
  CHECK_FALSE(b.guest->running());
  failover::FileArbiter arbiter(folder);
  CHECK(arbiter.read(*GuestId::from_name("db")).record.ended);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a guest that another host owns is not protected a second time") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  const auto second = Session::protect(b.parts(), b.replica(false), {});
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::refused);
  std::filesystem::remove_all(folder);
}
