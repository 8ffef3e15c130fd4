// SPDX-License-Identifier: LGPL-2.1-or-later
// What a restarted ftctl does with what an earlier one left: a table of cases; and the state files.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "ftctl/earlier.h"

using namespace libft;
using namespace libft::ftctl;

namespace {

Incarnation incarnation(const std::string& host, std::uint8_t number) {
  Incarnation one{host, {}};
  one.id[0] = number;
  return one;
}

const Incarnation kMine = incarnation("a", 1), kOther = incarnation("b", 2);

Remains remains(const Incarnation& self, bool lives) {
  Remains one;
  one.state.name = "web";
  one.state.self = self;
  one.state.guest.pid = 4242;
  one.guest_lives = lives;
  return one;
}

ReadAnswer record(const Incarnation& owner, std::vector<Incarnation> in_sync, bool ended = false) {
  return {ReadAnswer::Outcome::found, {Generation{7}, owner, std::move(in_sync), ended}, {}};
}

using Kind = Decision::Kind;

}  // namespace

TEST_CASE("no record and nothing left: a first protection") {
  CHECK(decide("web", {}, {ReadAnswer::Outcome::missing, {}, {}}, false).kind == Kind::first);
}

TEST_CASE("a guest lives and its record is missing: never created again") {
  const auto decision =
      decide("web", {remains(kMine, true)}, {ReadAnswer::Outcome::missing, {}, {}}, true);
  CHECK(decision.kind == Kind::refuse);
  CHECK(decision.stop.empty());
}

TEST_CASE("an arbiter that does not answer decides nothing") {
  for (const bool lives : {true, false}) {
    const auto decision =
        decide("web", {remains(kMine, lives)}, {ReadAnswer::Outcome::unknown, {}, "why"}, true);
    CHECK(decision.kind == Kind::refuse);
    CHECK(decision.stop.empty());
  }
}

TEST_CASE("the guest that lives on is still the owner: it is taken up again") {
  const auto decision =
      decide("web", {remains(kMine, true)}, record(kMine, {kMine, kOther}), false);
  CHECK(decision.kind == Kind::reattach);
  CHECK(decision.from == kMine);
  REQUIRE(decision.attach);
  CHECK(decision.stop.empty());
}

TEST_CASE("another owner: what lives here is stopped") {
  const auto decision = decide("web", {remains(kMine, true)}, record(kOther, {kOther}), false);
  CHECK(decision.kind == Kind::fenced);
  CHECK(decision.why.code() == Code::fenced);
  CHECK(decision.stop.size() == 1);
}

TEST_CASE("another owner, and the guest here died as well: fenced all the same") {
  const auto decision = decide("web", {remains(kMine, false)}, record(kOther, {kOther}), false);
  CHECK(decision.kind == Kind::fenced);
  CHECK(decision.stop.empty());
  CHECK(decision.discard.size() == 1);
}

TEST_CASE("the guest died here, unprotected: a new life") {
  const auto decision = decide("web", {remains(kMine, false)}, record(kMine, {kMine}), false);
  CHECK(decision.kind == Kind::new_life);
  CHECK(decision.from == kMine);
  CHECK(decision.discard.empty());  // A start that fails later must find it again.
}

TEST_CASE("two files of one process are one guest, which its owner keeps") {
  const auto decision =
      decide("web", {remains(kOther, true), remains(kMine, true)}, record(kMine, {kMine}), false);
  CHECK(decision.kind == Kind::reattach);
  CHECK(decision.stop.empty());
}

TEST_CASE("two domains are two guests: the owner's is taken up, the other one stopped") {
  Remains old = remains(kOther, true), owner = remains(kMine, true);
  for (Remains* one : {&old, &owner}) one->state.guest = {};
  old.state.domain = "3/one";
  owner.state.domain = "4/another";
  const auto decision = decide("web", {old, owner}, record(kMine, {kMine}), false);
  CHECK(decision.kind == Kind::reattach);
  REQUIRE(decision.attach);
  CHECK(decision.attach->domain == "4/another");
  REQUIRE(decision.stop.size() == 1);
  CHECK(whereabouts(decision.stop[0]) == "domain 3/one");

  old.state.domain = owner.state.domain;
  CHECK(decide("web", {old, owner}, record(kMine, {kMine}), false).stop.empty());
}

TEST_CASE("the guest died here, but a backup holds its state: only --anew gives that up") {
  const auto answer = record(kMine, {kMine, kOther});
  CHECK(decide("web", {remains(kMine, false)}, answer, false).kind == Kind::refuse);
  CHECK(decide("web", {remains(kMine, false)}, answer, true).kind == Kind::new_life);
}

TEST_CASE("a guest that is owned elsewhere is not started a second time") {
  CHECK(decide("web", {}, record(kOther, {kOther}), false).kind == Kind::refuse);
}

TEST_CASE("an ended guest may begin a new life, and nothing of the old one lives on") {
  const auto decision = decide("web", {remains(kMine, true)}, record(kMine, {kMine}, true), false);
  CHECK(decision.kind == Kind::new_life);
  CHECK(decision.stop.size() == 1);
}

TEST_CASE("a state file comes back as it was written, and a broken one is named") {
  char name[] = "/tmp/ftctl-state-XXXXXX";
  const std::string folder = ::mkdtemp(name);
  GuestState state;
  state.name = "web";
  state.host = "a";
  state.self = kMine;
  state.ftctl = this_process();
  state.qmp = "/q";
  state.domain = "7/uuid";
  state.argv = {"qemu", "-m", "1"};
  REQUIRE(write_state(folder, state));
  GuestState other = state;
  other.name = "db";
  REQUIRE(write_state(folder, other));
  std::vector<std::string> notes;
  auto read = read_states(folder, "web", notes);
  REQUIRE(read.size() == 1);
  CHECK(notes.empty());
  CHECK(read[0].self == kMine);
  CHECK(read[0].argv == state.argv);
  CHECK(read[0].domain == "7/uuid");
  CHECK(alive(read[0].ftctl));
  CHECK(!alive(read[0].guest));
  std::filesystem::resize_file(read[0].file, 10);
  CHECK(read_states(folder, "web", notes).empty());
  CHECK(notes.size() == 1);
  std::filesystem::remove_all(folder);
}

TEST_CASE("of the lives that are over nothing stays, of those that are not everything") {
  char name[] = "/tmp/ftctl-state-XXXXXX";
  const std::string folder = ::mkdtemp(name);
  GuestState state;
  state.name = "web";
  const auto write = [&](std::uint8_t number, const ProcessId& ftctl, const ProcessId& guest) {
    state.self = incarnation("a", number);
    state.ftctl = ftctl;
    state.guest = guest;
    REQUIRE(write_state(folder, state));
  };
  const ProcessId parent = process_of(::getppid());
  write(1, this_process(), {});  // Ours.
  write(2, {}, {});              // Over.
  write(3, {}, parent);          // Its guest lives on.
  write(4, parent, {});          // Its ftctl does: a guest in memory.
  state.name = "db";
  write(5, {}, {});
  remove_dead_states(folder, "web", incarnation("a", 1));
  std::vector<std::string> notes;
  const auto left = read_states(folder, "web", notes);
  CHECK(left.size() == 3);
  for (const GuestState& one : left) CHECK(!(one.self == incarnation("a", 2)));
  CHECK(read_states(folder, "db", notes).size() == 1);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a process is ended only if it is the one that was meant") {
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::pause();
    ::_exit(0);
  }
  ProcessId process = process_of(pid);
  REQUIRE(alive(process));
  ProcessId earlier = process;
  --earlier.start_ticks;  // The same number, another process.
  CHECK(kill_process(earlier, Millis{1000}));
  CHECK(alive(process));
  CHECK(kill_process(process, Millis{10000}));
  int status = 0;
  CHECK(::waitpid(pid, &status, 0) == pid);
  CHECK(WTERMSIG(status) == SIGKILL);
}
