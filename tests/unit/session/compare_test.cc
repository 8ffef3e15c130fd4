// SPDX-License-Identifier: LGPL-2.1-or-later
// Sessions under the strategy compare: two hosts run a guest that counts what it is asked.
#include <deque>
#include <optional>

#include "output/frames_gate.h"
#include "support/frames_world.h"
#include "unit/session/counting_guest.h"
#include "unit/session/host.h"

using namespace libft;
using namespace libft::test;
using support::socket_pair;
using support::wait_readable;

namespace {

struct CompareHost : Host {
  CompareHost(std::string host, const std::string& shared) : Host(std::move(host), shared) {
    options.strategy = Strategy::compare;
    options.answer_max = Millis{5000};  // A busy machine is not to make checkpoints.
    options.reload_max = Millis{5000};
    make_replica = [this](bool standby) { return counting_replica(standby); };
  }
  ~CompareHost() { die(); }

  Replica counting_replica(bool standby) {
    auto inner = socket_pair(), outer = socket_pair();
    outside = std::move(outer.ours);
    auto port = output::GuestPort::from_pair(std::move(inner.gates));
    REQUIRE(port);
    std::vector<output::GateNic> nics;
    nics.push_back(output::GateNic{"net0", std::move(*port), std::move(outer.gates)});
    output::FramesGateOptions gate_options;
    gate_options.start = standby ? output::GateStart::standby : output::GateStart::held;
    auto gate = output::FramesGate::create(std::move(nics), gate_options, log);
    REQUIRE(gate);
    auto made = std::make_unique<CountingGuest>(std::move(inner.ours), standby);
    counting = made.get();
    Replica replica;
    replica.input = gate->get();
    if (has_facets) replica.compared = gate->get();
    if (has_facets && standby) replica.ahead = made.get();
    replica.gate = std::move(*gate);
    replica.guest = std::move(made);
    return replica;
  }

  // One question, one answer: neither is repeated.
  std::string ask(const std::string& text) {
    const auto frame = udp_frame(kToGuest, text);
    REQUIRE(::send(outside.get(), frame.data(), frame.size(), 0) > 0);
    if (!wait_readable(outside.get(), POLLIN, 30'000)) return "(no answer)";
    std::array<char, 2048> answer{};
    const ssize_t got = ::recv(outside.get(), answer.data(), answer.size(), 0);
    return {&answer[kTextAt], std::size_t(got) - kTextAt};
  }
  // That many questions, and whether each was counted once.
  bool ask_in_turn(int questions) {
    for (int n = 0; n < questions; ++n) {
      const std::string answer = ask("q");
      if (answer != std::to_string(++asked) + ":q") {
        MESSAGE(answer);
        return false;
      }
    }
    return true;
  }
  bool compares() {
    const bool does =
        eventually([](const SessionStatus& s) { return s.compare.state == "comparing"; });
    if (!does) MESSAGE(to_json(session->status()));
    return does;
  }
  bool becomes_primary() {
    return eventually([](const SessionStatus& s) { return s.role == Role::primary; });
  }
  std::string hears(std::string_view what) {
    std::string text;
    const bool heard = eventually([&](const SessionStatus&) {
      bool found = false;
      session->process([&](const SessionEvent& event) {
        if (event.name != what) return;
        found = true;
        text = event.text;
      });
      return found;
    });
    return heard ? text : "(not heard)";
  }

  bool has_facets = true;
  std::uint64_t asked = 0;
  os::ScopedFd outside;
  CountingGuest* counting = nullptr;
};

struct ComparedPair {
  std::string folder = temporary_folder();
  CompareHost a{"a", folder}, b{"b", folder};
  ~ComparedPair() {
    a.die();
    b.die();
    std::filesystem::remove_all(folder);
  }
  void begin() {
    a.protect();
    REQUIRE(a.ask_in_turn(3));  // A state that an empty memory is not good for.
    b.stand_by(a.address);
    REQUIRE(a.reaches("protecting"));
    REQUIRE(b.reaches("in_sync"));
    REQUIRE(a.compares());
  }
  void a_dies() {
    a.die();
    REQUIRE(b.becomes_primary());
    b.asked = a.asked;
  }
};

}  // namespace

TEST_CASE("what both say leaves without a checkpoint, and the backup goes on where it is") {
  ComparedPair pair;
  pair.begin();
  const auto before = pair.a.session->status();
  REQUIRE(pair.a.ask_in_turn(100));
  REQUIRE(pair.a.eventually([&](const SessionStatus& s) {
    return s.compare.frames_compared >= before.compare.frames_compared + 100;
  }));
  const auto after = pair.a.session->status();
  CHECK(after.epochs <= before.epochs + 2);
  CHECK(after.compare.differences == 0);
  CHECK(after.strategy == "compare");
  CHECK(pair.b.session->status().strategy == "compare");
  const int reloads = pair.b.counting->reloads;
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
  CHECK(pair.b.counting->reloads == reloads);
}

TEST_CASE("a difference is settled by a checkpoint, and the primary is right") {
  ComparedPair pair;
  pair.begin();
  pair.b.counting->odd = true;
  REQUIRE(pair.a.ask_in_turn(3));
  const auto seen = pair.a.session->status().compare;
  CHECK(seen.differences > 0);
  CHECK(seen.frames_by_checkpoint > 0);
  pair.b.counting->odd = false;
  REQUIRE(pair.a.compares());
  REQUIRE(pair.a.ask_in_turn(20));
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
}

TEST_CASE("where the two always differ there are plain checkpoints, and few tries") {
  ComparedPair pair;
  pair.begin();
  pair.b.counting->odd = true;
  const auto before = pair.a.session->status().compare;
  REQUIRE(pair.a.ask_in_turn(100));
  const auto after = pair.a.session->status().compare;
  CHECK(after.frames_by_checkpoint >= before.frames_by_checkpoint + 100);
  CHECK(after.runs < before.runs + 20);  // Each rest is twice as long as the one before.
}

TEST_CASE("a backup whose guest says nothing costs a checkpoint after the time limit") {
  ComparedPair pair;
  pair.a.options.answer_max = Millis{50};
  pair.begin();
  pair.b.counting->mute = true;
  REQUIRE(pair.a.ask_in_turn(1));
  CHECK(pair.a.session->status().compare.timeouts > 0);
  pair.b.counting->mute = false;
  REQUIRE(pair.a.compares());
  REQUIRE(pair.a.ask_in_turn(5));
}

TEST_CASE("a checkpoint that the backup cannot run is taken over like any other") {
  ComparedPair pair;
  pair.a.options.reload_max = Millis{100};
  pair.begin();
  pair.b.counting->cannot_reload = true;
  pair.b.counting->odd = true;  // A checkpoint is needed.
  REQUIRE(pair.a.ask_in_turn(20));
  CHECK(pair.a.session->status().compare.state.starts_with("checkpoints"));
  pair.b.counting->cannot_reload = false;
  pair.b.counting->odd = false;
  const int reloads = pair.b.counting->reloads;
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
  CHECK(pair.b.counting->reloads == reloads + 1);
}

TEST_CASE("a follower that died is no replica any more: what it said has left") {
  ComparedPair pair;
  pair.begin();
  REQUIRE(pair.a.ask_in_turn(5));
  const auto self = pair.b.session->status().self;
  pair.b.counting->happen(GuestEvent::Kind::process_died);
  REQUIRE(pair.b.eventually(
      [&](const SessionStatus& s) { return s.self != self && s.state == "in_sync"; }));
  REQUIRE(pair.a.compares());
  REQUIRE(pair.a.ask_in_turn(20));
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
}

TEST_CASE("a connection that breaks ends the comparison, until the next checkpoint") {
  ComparedPair pair;
  pair.begin();
  for (int round = 0; round < 5; ++round) {
    REQUIRE(pair.a.ask_in_turn(5));
    const auto before = pair.a.session->status().reprotects;
    pair.b.cable.cut();
    REQUIRE(pair.a.ask_in_turn(5));
    REQUIRE(pair.a.eventually([&](const SessionStatus& s) { return s.reprotects > before; }));
  }
  REQUIRE(pair.a.compares());
  REQUIRE(pair.a.ask_in_turn(5));
  const auto same = pair.a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
}

TEST_CASE("a backup that cannot run the guest beside its image is given plain checkpoints") {
  ComparedPair pair;
  pair.b.has_facets = false;
  pair.a.protect();
  pair.b.stand_by(pair.a.address);
  CHECK(pair.a.hears("not_compared").starts_with("plain checkpoints"));
  REQUIRE(pair.a.reaches("protecting"));
  REQUIRE(pair.a.ask_in_turn(10));
  CHECK(pair.a.session->status().compare.state.starts_with("checkpoints: the backup cannot"));
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
}

TEST_CASE("a promoted guest is compared with its next backup, and hands over") {
  ComparedPair pair;
  CompareHost c("c", pair.folder);
  pair.begin();
  REQUIRE(pair.a.ask_in_turn(10));
  pair.a_dies();
  c.stand_by(pair.b.address);
  REQUIRE(pair.b.reaches("protecting"));
  REQUIRE(pair.b.ask_in_turn(5));
  const bool does = pair.b.compares();
  if (!does) MESSAGE(to_json(c.session->status()));
  REQUIRE(does);
  REQUIRE(pair.b.ask_in_turn(20));
  REQUIRE(pair.b.session->switch_over());
  REQUIRE(c.becomes_primary());
  c.asked = pair.b.asked;
  CHECK(c.ask_in_turn(5));
}

TEST_CASE("a protected guest changes from checkpoints to comparing, and back") {
  ComparedPair pair;
  pair.a.options.strategy = Strategy::checkpoint;
  pair.a.protect();
  pair.b.stand_by(pair.a.address);
  REQUIRE(pair.a.reaches("protecting"));
  REQUIRE(pair.b.reaches("in_sync"));
  const auto self = pair.b.session->status().self;
  for (int round = 0; round < 3; ++round) {
    REQUIRE(pair.a.ask_in_turn(10));
    REQUIRE(pair.a.session->change_strategy(Strategy::compare, std::chrono::seconds(20)));
    REQUIRE(pair.a.compares());
    REQUIRE(pair.a.ask_in_turn(10));
    CHECK(pair.b.session->status().strategy == "compare");
    const auto same = pair.a.session->verify(std::chrono::seconds(20));
    CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
    REQUIRE(pair.a.session->change_strategy(Strategy::checkpoint, std::chrono::seconds(20)));
    REQUIRE(pair.a.ask_in_turn(10));
    CHECK_FALSE(pair.b.counting->executes());
  }
  REQUIRE(pair.a.session->change_strategy(Strategy::compare, std::chrono::seconds(20)));
  REQUIRE(pair.a.compares());
  REQUIRE(pair.a.ask_in_turn(10));
  CHECK(pair.b.session->status().self == self);
  pair.a_dies();
  CHECK(pair.b.ask_in_turn(10));
}

TEST_CASE("whose gate lets no single frame out is told so at once") {
  const auto folder = temporary_folder();
  CompareHost a("a", folder);
  a.has_facets = false;
  auto made = Session::protect(a.parts(), a.replica(false), a.options);
  REQUIRE_FALSE(made);
  CHECK(made.error().code() == Code::unsupported);
  std::filesystem::remove_all(folder);
}
