// SPDX-License-Identifier: LGPL-2.1-or-later
// Three sessions of one guest under lockstep: primary, backup, and a witness that votes.
#include <doctest/doctest.h>

#include <map>
#include <mutex>

#include "unit/session/machine_host.h"

using namespace libft;
using namespace libft::test;

namespace {

// Hosts a, b and c, whose guests a test can spoil.
struct Three {
  std::string folder = temporary_folder();
  MachineHost a{"a", folder, Strategy::lockstep}, b{"b", folder, Strategy::lockstep},
      c{"c", folder, Strategy::lockstep};
  std::mutex mutex;
  std::vector<std::string> peers;  // Of the witness.

  Three() {
    a.protect();
    b.stand_by(a.address);
    REQUIRE(a.reaches("protecting"));
    REQUIRE(b.reaches("in_sync"));
    set_peers({a.address, b.address});
  }
  ~Three() {
    c.die();
    std::filesystem::remove_all(folder);
  }

  void set_peers(std::vector<std::string> now) {
    const std::scoped_lock lock(mutex);
    peers = std::move(now);
  }
  void join_witness() {
    c.bear_witness([this] {
      const std::scoped_lock lock(mutex);
      return peers;
    });
    REQUIRE(c.reaches("voting"));
    REQUIRE(votes_at(b));
  }
  bool votes_at(MachineHost& backup) {
    return backup.hears("witness_votes").starts_with("c, from epoch");
  }
  // A bit of the value that the guest keeps for key3.
  static void flip_in(const MachineHost& host) {
    const auto memory = host.memory();
    memory[kv_value_at(memory, "key3", "v3")] ^= std::byte{1};
  }
};

}  // namespace

TEST_CASE("a witness executes what the backup does, and votes the same") {
  Three three;
  set_all(three.a, 0, 10);
  three.join_witness();
  set_all(three.a, 10, 20);
  const std::uint64_t before = three.c.session->status().epochs;
  set_all(three.a, 20, 30);
  CHECK(three.c.eventually([&](const SessionStatus& s) { return s.epochs > before + 10; }));
  CHECK(three.c.session->status().role == Role::backup);  // It owns nothing.
  CHECK(three.a.session->status().is_protected);
  three.c.die();
  CHECK_FALSE(three.b.hears("witness_lost").empty());
  set_all(three.a, 30, 40);  // Nobody waits for it.
}

TEST_CASE("a backup that errs is outvoted, replaced by the witness's image, and stays the backup") {
  Three three;
  set_all(three.a, 0, 10);
  three.join_witness();
  const auto self = three.b.session->status().self;
  three.flip_in(three.b);
  CHECK(three.a.ask("G key3") == "v3");
  CHECK(three.b.hears("outvoted").find("this backup b") == 0);
  CHECK(three.b.hears("replaced").find("by the witness's image of epoch") == 0);
  CHECK(three.b.hears("difference_examined").find("changed by itself") != std::string::npos);
  CHECK(three.b.session->status().self == self);
  CHECK(three.a.session->status().is_protected);
  set_all(three.a, 10, 20);
  const auto same = three.a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  // It can take over, and the witness is of use again.
  three.flip_in(three.c);
  CHECK(three.a.ask("G key3") == "v3");
  CHECK(three.b.hears("outvoted").find("the witness c") == 0);
  three.a.die();
  REQUIRE(three.b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  // It repeats first what the primary may not have let out.
  const auto question = kv_request("G key19");
  CHECK(::send(three.b.outside.get(), question.data(), question.size(), 0) > 0);
  CHECK(three.b.listen_for("v19"));
}

TEST_CASE("a witness that errs is outvoted and made anew") {
  Three three;
  set_all(three.a, 0, 10);
  three.join_witness();
  three.flip_in(three.c);
  CHECK(three.a.ask("G key3") == "v3");
  CHECK(three.b.hears("outvoted").find("the witness c") == 0);
  REQUIRE(three.votes_at(three.b));
  set_all(three.a, 10, 20);
  CHECK(three.a.session->status().is_protected);
}

TEST_CASE("a primary that errs is outvoted, and nobody hears what it said") {
  Three three;
  set_all(three.a, 0, 10);
  three.join_witness();
  three.flip_in(three.a);
  const auto question = kv_request("G key3");
  CHECK(::send(three.a.outside.get(), question.data(), question.size(), 0) > 0);
  CHECK(three.b.hears("outvoted").find("the primary a") == 0);
  REQUIRE(three.b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  REQUIRE(three.a.eventually([](const SessionStatus& s) { return s.role == Role::fenced; }));
  CHECK_FALSE(three.a.listen_for("w3", 300));
  CHECK(three.b.ask("G key3") == "v3");
  (void)three.b.next_answer(
      300);  // To what the old primary was asked, which is answered here, too.
  set_all(three.b, 10, 20);
  // Its host joins as the backup, and the witness votes there.
  three.a.die();
  three.a.stand_by(three.b.address);
  three.set_peers({three.a.address, three.b.address});
  REQUIRE(three.b.reaches("protecting"));
  REQUIRE(three.votes_at(three.a));
  three.flip_in(three.a);
  CHECK(three.b.ask("G key3") == "v3");
  CHECK(three.a.hears("outvoted").find("this backup a") == 0);
  CHECK(three.a.hears("replaced").find("by the witness's image") == 0);
}

TEST_CASE("a byte that the backup lost unnoticed shows when a witness is given a copy") {
  Three three;
  set_all(three.a, 0, 10);
  const auto self = three.b.session->status().self;
  // What was hashed once is hashed again when the guest writes it: until then it would be noticed.
  REQUIRE(three.a.session->verify(std::chrono::seconds(20)));
  const auto memory = three.b.memory();
  REQUIRE(memory[memory.size() - 8] == std::byte{0});  // Which the guest does not use.
  memory[memory.size() - 8] = std::byte{1};
  set_all(three.a, 10, 20);
  const auto peers = [&three] { return std::vector{three.b.address}; };
  three.c.bear_witness(peers);
  CHECK(three.b.hears("diverged").find("changed unnoticed") != std::string::npos);
  REQUIRE(three.b.eventually([&](const SessionStatus& s) { return s.self != self; }));
  REQUIRE(three.votes_at(three.b));
  CHECK(three.a.ask("G key19") == "v19");
}

TEST_CASE("a replica that differs is given up as ever when the witness is not there to vote") {
  Three three;
  set_all(three.a, 0, 10);
  three.join_witness();
  const auto self = three.b.session->status().self;
  three.c.die();
  CHECK_FALSE(three.b.hears("witness_lost").empty());
  three.flip_in(three.b);
  CHECK(three.a.ask("G key3") == "v3");
  CHECK_FALSE(three.b.hears("diverged").empty());
  REQUIRE(three.b.eventually([&](const SessionStatus& s) { return s.self != self; }));
}

TEST_CASE("a witness is told where and when it can vote") {
  const auto folder = temporary_folder();
  MachineHost a("a", folder, Strategy::replay), b("b", folder, Strategy::replay),
      c("c", folder, Strategy::replay);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  c.bear_witness([&] { return std::vector{a.address}; });
  CHECK(c.hears("not_connected").find("a witness votes at the backup") != std::string::npos);
  c.die();
  c.forget_events();
  c.bear_witness([&] { return std::vector{b.address}; });
  CHECK(c.hears("not_connected").find("votes under lockstep") != std::string::npos);
  REQUIRE(a.session->change_strategy(Strategy::lockstep, std::chrono::seconds(20)));
  CHECK(c.reaches("voting"));
  REQUIRE(a.session->change_strategy(Strategy::replay, std::chrono::seconds(20)));
  CHECK(b.hears("witness_lost").find("not lockstep any more") != std::string::npos);
  CHECK(a.ask("S fruit apple") == "OK");
  c.die();
  std::filesystem::remove_all(folder);
}
