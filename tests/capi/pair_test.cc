// SPDX-License-Identifier: LGPL-2.1-or-later
// Two hosts that know libft by libft.h alone: every port in C, over socket pairs and over a
// transport of their own, answered at once, later, and on libft's threads.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "toy.h"

using namespace toy;

namespace {

struct Way {
  const char* name;
  Answering answering;
  Line line;
};
constexpr Way kWays[] = {
    {"answered at once, over socket pairs", Answering::at_once, Line::descriptors},
    {"answered later, over socket pairs", Answering::later, Line::descriptors},
    {"on libft's threads, over socket pairs", Answering::any_thread, Line::descriptors},
    {"called on libft's threads and answered later", Answering::any_thread_later,
     Line::descriptors},
    {"answered at once, over a port", Answering::at_once, Line::port},
    {"answered later, over a port", Answering::later, Line::port}};

// What was seen counts up by one. At a fail-over some of it may be missing, which was acknowledged
// and not yet released when the primary died; nothing is ever said a second time, or taken back.
bool continuous(const std::vector<std::uint64_t>& seen, int failovers) {
  int gaps = 0;
  std::uint64_t newest = 0;
  for (const std::uint64_t value : seen) {
    if (value <= newest) return false;
    if (value != newest + 1) ++gaps;
    newest = value;
  }
  return gaps <= failovers;
}

void protect_pair(World& world, Host& a, Host& b) {
  a.protect();
  REQUIRE_MESSAGE(drive(world, {&a}, [&] { return a.done == 1; }), a.log);
  REQUIRE_MESSAGE(a.last_status == FT_OK, a.last_text);
  b.stand_by(a);
  REQUIRE_MESSAGE(drive(world, {&a, &b}, [&] { return a.state().is_protected && b.is("in_sync"); }),
                  (a.log + b.log + a.state().state));
}

bool protects(Host& a, Host& b) { return a.state().is_protected != 0 && b.is("in_sync"); }

// What it leaves to the session that is to go on.
std::string hold(World& world, Host& host, const std::vector<Host*>& hosts) {
  REQUIRE(drive(world, hosts, [&] { return protects(*hosts[0], *hosts[1]); }));
  const int done = host.done;
  REQUIRE(ft_session_hold(host.session, 5'000'000, host.completion(), nullptr) == FT_OK);
  REQUIRE_MESSAGE(drive(world, hosts, [&] { return host.done == done + 1; }), host.log);
  REQUIRE_MESSAGE(host.last_status == FT_OK, host.last_text);
  return host.last_text;
}

void check_same_life(Host& host, const ft_state& before) {
  const ft_state now = host.state();
  CHECK(now.role == before.role);
  CHECK(now.generation == before.generation);
  CHECK(std::string(now.self) == before.self);
}

ft_statistics statistics_of(const Host& host) {
  ft_statistics statistics{};
  statistics.struct_size = sizeof statistics;
  ft_session_statistics(host.session, &statistics, nullptr);
  return statistics;
}
std::uint64_t sync_pages_sent(const Host& host) { return statistics_of(host).sync_pages_sent; }

// A socket of each host's leads here, and what comes from one is carried to the other, or not.
struct Relay {
  explicit Relay(World& world) {
    for (std::size_t i = 0; i < 2; ++i) {
      std::array<int, 2> ends{};
      REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
      world.heartbeat_sockets[i == 0 ? "a" : "b"] = ends[0];
      here[i] = ends[1];
    }
  }
  ~Relay() {
    for (const int fd : here) ::close(fd);
  }
  Relay(const Relay&) = delete;

  void carry() {
    std::array<char, 256> bytes{};
    for (std::size_t i = 0; i < 2; ++i)
      for (ssize_t n; (n = ::recv(here[i], bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;)
        if (::send(here[1 - i], bytes.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL) == n)
          ++carried[i];
  }

  std::array<int, 2> here{};
  std::array<int, 2> carried{};
};

std::uint64_t suspicions(const Host& host) { return statistics_of(host).heartbeat_suspicions; }

}  // namespace

TEST_CASE("heartbeats travel over sockets that the toolstack opened") {
  World world;
  Relay relay(world);
  Host a(world, "a"), b(world, "b");
  a.protect();
  REQUIRE_MESSAGE(drive(world, {&a}, [&] { return a.done == 1; }), a.log);
  b.stand_by(a);
  REQUIRE_MESSAGE(drive(world, {&a, &b},
                        [&] {
                          relay.carry();
                          return a.state().is_protected && relay.carried[0] > 5 &&
                                 relay.carried[1] > 5;
                        }),
                  (a.log + b.log));
  CHECK(suspicions(a) + suspicions(b) == 0);
  // Carried no longer: nothing else is wrong, and each suspects the other all the same.
  REQUIRE(drive(world, {&a, &b}, [&] { return suspicions(b) > 0; }));
}

TEST_CASE("sockets for heartbeats are refused where they cannot serve") {
  World world;
  Host b(world, "b");
  ft_error error{};
  error.struct_size = sizeof error;
  const int unconnected = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  REQUIRE(ft_session_set_heartbeat_fds(b.session, &unconnected, 1, &error) == FT_OK);
  const ft_arbiter_port arbiter = arbiter_port(world);
  ft_session_set_arbiter(b.session, &arbiter, nullptr);
  const ft_dial_port dial = dial_port(world, b);
  ft_session_set_dial(b.session, &dial, nullptr);
  CHECK(ft_session_stand_by(b.session, nullptr, &error) == FT_E_INVALID);
  CHECK(std::string(error.remedy).find("connect") != std::string::npos);

  const int stream = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(ft_session_set_heartbeat_fds(b.session, &stream, 1, &error) == FT_E_INVALID);
  CHECK(::close(stream) != 0);  // libft's, also on failure.

  const ft_detector_port detector = detector_port(world, b);
  ft_session_set_detector(b.session, &detector, nullptr);
  CHECK(ft_session_stand_by(b.session, nullptr, &error) == FT_E_INVALID);
}

TEST_CASE("a pair in C survives a fail-over") {
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    World world;
    world.answering = way.answering;
    world.line = way.line;
    {
      Host a(world, "a"), b(world, "b"), c(world, "c");
      protect_pair(world, a, b);
      const auto before = a.state().epoch_released;
      REQUIRE(drive(world, {&a, &b}, [&] { return a.state().epoch_released > before + 10; }));
      const auto said = a.guest->counter;
      a.die();
      REQUIRE_MESSAGE(drive(world, {&b}, [&] { return b.state().role == FT_ROLE_PRIMARY; }), b.log);
      REQUIRE(drive(world, {&b}, [&] { return b.guest->counter > said + 20; }));
      {
        const std::lock_guard lock(world.mutex);
        CHECK(b.guest->consistent());
        CHECK(continuous(world.seen, 1));
        CHECK(world.seen.back() > said);
      }

      // Protected again, by another host.
      REQUIRE(ft_session_reprotect(b.session, b.completion(), nullptr) == FT_OK);
      c.stand_by(b);
      REQUIRE_MESSAGE(drive(world, {&b, &c}, [&] { return b.done == 2; }), (b.log + c.log));
      CHECK(b.last_status == FT_OK);
      CHECK(b.state().is_protected == 1);
    }
    CHECK(world.freed == world.given);
    CHECK(world.freed_twice == 0);
  }
}

TEST_CASE("the owner's wishes come to an end, each once") {
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    World world;
    world.answering = way.answering;
    world.line = way.line;
    {
      Host a(world, "a"), b(world, "b");
      protect_pair(world, a, b);
      REQUIRE(drive(world, {&a, &b}, [&] { return b.is("in_sync"); }));

      REQUIRE(ft_session_verify(a.session, a.completion(), nullptr) == FT_OK);
      REQUIRE(drive(world, {&a, &b}, [&] { return a.done == 2; }));
      CHECK_MESSAGE(a.last_status == FT_OK, a.last_text);
      CHECK_FALSE(a.last_text.empty());

      const int done = b.done;
      REQUIRE(ft_session_test_failover(b.session, b.completion(), nullptr) == FT_OK);
      REQUIRE(drive(world, {&a, &b}, [&] { return b.done == done + 1; }));
      CHECK_MESSAGE(b.last_status == FT_OK, b.last_text);
      REQUIRE(ft_session_switch_over(b.session, b.completion(), nullptr) == FT_OK);  // Not there.
      REQUIRE(drive(world, {&a, &b}, [&] { return b.done == done + 2; }));
      CHECK(b.last_status == FT_E_REFUSED);

      const auto said = a.guest->counter;
      REQUIRE(ft_session_switch_over(a.session, a.completion(), nullptr) == FT_OK);
      REQUIRE_MESSAGE(drive(world, {&a, &b},
                            [&] {
                              return b.state().role == FT_ROLE_PRIMARY &&
                                     a.state().role == FT_ROLE_FENCED;
                            }),
                      (a.log + b.log));
      REQUIRE(drive(world, {&a, &b}, [&] { return b.guest->counter > said + 5; }));
      const std::lock_guard lock(world.mutex);
      CHECK(b.guest->consistent());
      CHECK(continuous(world.seen, 0));  // Planned: nothing is missing.
    }
    CHECK(world.freed == world.given);
  }
}

TEST_CASE("a session goes on where another one of its host was held") {
  for (const Way& way : kWays) {
    CAPTURE(way.name);
    World world;
    world.answering = way.answering;
    world.line = way.line;
    {
      Host a(world, "a"), b(world, "b");
      protect_pair(world, a, b);
      const auto before = a.state();
      const std::string a_left = hold(world, a, {&a, &b});
      CHECK_FALSE(a.guest->running);
      Host next(world, "a", a_left);
      next.take_up(a);
      a.die();
      b.primary = &next;
      next.protect();
      REQUIRE_MESSAGE(drive(world, {&next, &b}, [&] { return next.state().is_protected; }),
                      (next.log + b.log + next.last_text));
      check_same_life(next, before);
      CHECK(sync_pages_sent(next) == 0);
      const auto released = next.state().epoch_released;
      REQUIRE(drive(world, {&next, &b}, [&] { return next.state().epoch_released > released; }));

      const auto backup = b.state();
      const std::string b_left = hold(world, b, {&next, &b});
      Host second(world, "b", b_left);
      second.take_up(b);
      b.die();
      second.stand_by(next);
      REQUIRE_MESSAGE(drive(world, {&next, &second}, [&] { return protects(next, second); }),
                      (next.log + second.log + second.last_text));
      const auto then = next.state().epoch_released;  // What follows needs an acknowledgement.
      REQUIRE(drive(world, {&next, &second}, [&] { return next.state().epoch_released > then; }));
      check_same_life(second, backup);
      CHECK(sync_pages_sent(next) == 0);

      const auto said = next.guest->counter;
      REQUIRE(ft_session_switch_over(next.session, next.completion(), nullptr) == FT_OK);
      REQUIRE_MESSAGE(
          drive(world, {&next, &second}, [&] { return second.state().role == FT_ROLE_PRIMARY; }),
          (next.log + second.log + next.last_text));
      REQUIRE(drive(world, {&next, &second}, [&] { return second.guest->counter > said + 5; }));
      const std::lock_guard lock(world.mutex);
      CHECK(second.guest->consistent());
      CHECK(continuous(world.seen, 0));
    }
    CHECK(world.freed == world.given);
    CHECK(world.freed_twice == 0);
  }
}

TEST_CASE("a hold that leads to nothing is let go") {
  World world;
  Host a(world, "a"), b(world, "b");
  protect_pair(world, a, b);
  CHECK(ft_session_let_go(a.session, nullptr) == FT_E_STATE);
  (void)hold(world, a, {&a, &b});
  const auto said = a.guest->counter;
  REQUIRE(ft_session_let_go(a.session, nullptr) == FT_OK);
  REQUIRE(drive(world, {&a, &b}, [&] { return a.guest->counter > said + 5; }));
  CHECK(ft_session_let_go(a.session, nullptr) == FT_E_STATE);
  CHECK(protects(a, b));
}

TEST_CASE("what is not a session that was held is refused, and says what to do") {
  World world;
  Host a(world, "a"), b(world, "b");
  protect_pair(world, a, b);
  const std::string left = hold(world, a, {&a, &b});
  ft_error error{};
  error.struct_size = sizeof error;
  for (const std::string& spoiled : {std::string("{}"), left.substr(0, left.size() / 2)}) {
    Host next(world, "a", spoiled);
    next.set_common();
    next.take_up(a);
    next.set_guest(true);
    CHECK(ft_session_protect(next.session, nullptr, &error) == FT_E_CORRUPT);
    CHECK(error.remedy[0] != 0);
  }
  Host other_role(world, "a", left);
  other_role.take_up(a);
  other_role.stand_by(b);
  REQUIRE(drive(world, {&other_role}, [&] { return other_role.done == 1; }));
  CHECK(other_role.last_status == FT_E_INVALID);
  std::string changed = left;
  changed[changed.find("48454c44") + 40] ^= 1;  // A digit of the bytes, which have a checksum.
  Host next(world, "a", changed);
  next.take_up(a);
  next.protect();
  REQUIRE(drive(world, {&next}, [&] { return next.done == 1; }));
  CHECK(next.last_status == FT_E_CORRUPT);
}

TEST_CASE("a guest that ends on purpose is recorded as ended") {
  World world;
  Host a(world, "a"), b(world, "b");
  protect_pair(world, a, b);
  REQUIRE(ft_session_guest_event(a.session, FT_GUEST_ENDED, "poweroff", nullptr) == FT_OK);
  REQUIRE(drive(world, {&a, &b}, [&] {
    return a.state().role == FT_ROLE_ENDED && b.state().role == FT_ROLE_ENDED;
  }));
  CHECK(world.records.at("toy").find("\"ended\":true") != std::string::npos);
}

TEST_CASE("a stopped session says so, and its wishes end") {
  World world;
  Host a(world, "a"), b(world, "b");
  protect_pair(world, a, b);
  REQUIRE(ft_session_stop(b.session, b.completion(), nullptr) == FT_OK);
  REQUIRE(drive(world, {&a, &b}, [&] { return b.done == 2; }));
  CHECK(b.last_status == FT_OK);
  CHECK(b.state().role == FT_ROLE_STOPPED);
  REQUIRE_MESSAGE(drive(world, {&a, &b}, [&] { return !a.state().is_protected; }), a.log);
}
