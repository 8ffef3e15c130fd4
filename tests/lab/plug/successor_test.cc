// SPDX-License-Identifier: LGPL-2.1-or-later
// The process that holds a guest's output is killed; what it held stays, and another one takes
// over.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "plug_world.h"

namespace libft::plug_lab {
namespace {

using conformance::epoch;
using conformance::range;

// A process of its own with a gate, which does what single letters tell it.
class Holder {
 public:
  explicit Holder(const Network& network) {
    int orders[2], answers[2];
    REQUIRE(::pipe(orders) == 0);
    REQUIRE(::pipe(answers) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) obey(network, orders[0], answers[1]);
    orders_ = os::ScopedFd(orders[1]);
    answers_ = os::ScopedFd(answers[0]);
    ::close(orders[0]);
    ::close(answers[1]);
    expect_done();
  }
  ~Holder() { kill(); }

  void order(char what) {
    REQUIRE(::write(orders_.get(), &what, 1) == 1);
    expect_done();
  }
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  [[noreturn]] static void obey(const Network& network, int orders, int answers) {
    support::MemoryLog log;
    auto gate = output::open_plug_gate(network.options(), log);
    if (!gate) ::_exit(1);
    std::uint64_t number = 0;
    for (char what = 0; ::write(answers, "d", 1) == 1 && ::read(orders, &what, 1) == 1;) {
      Status status;
      if (what == 's') status = (*gate)->seal(epoch(++number));
      if (what == 'r') status = (*gate)->release(epoch(number));
      if (what == 'o') status = (*gate)->open();
      if (!status.ok()) ::_exit(2);
    }
    ::_exit(3);
  }
  void expect_done() {
    char done = 0;
    REQUIRE(::read(answers_.get(), &done, 1) == 1);
  }

  pid_t pid_ = -1;
  os::ScopedFd orders_, answers_;
};

void send(Network& network, std::uint32_t first, std::uint32_t end) {
  for (std::uint32_t n = first; n < end; ++n) network.send(n, n % 2);
}

// Killed with epoch 1 out, epoch 2 sealed (10 to 20) and more (20 to 30) after it; the guest goes
// on.
void killed_while_holding(Network& network) {
  Holder holder(network);
  send(network, 0, 10);
  holder.order('s');
  holder.order('r');
  send(network, 10, 20);
  holder.order('s');
  send(network, 20, 30);
  holder.kill();
  send(network, 30, 40);
  REQUIRE(network.wait_for(10));
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived_are(range(0, 10)));
}

std::unique_ptr<OutputGate> adopt(Network& network, Log& log) {
  output::PlugGateOptions options = network.options();
  CHECK(output::open_plug_gate(options, log).error().code() == Code::busy);
  options.leftovers = output::PlugLeftovers::adopt;
  auto gate = output::open_plug_gate(std::move(options), log);
  if (!gate) FAIL(gate.error().to_string());
  CHECK(network.nothing_more_arrives());
  return std::move(*gate);
}

TEST_CASE("plug gate: killed while holding, and a successor") {
  support::MemoryLog log;
  Network network({DeviceKind::tap, DeviceKind::tap});
  killed_while_holding(network);
  auto gate = adopt(network, log);
  CHECK(gate->statistics().packets_held == 30);
  CHECK(gate->statistics().packets_released == 0);
  send(network, 40, 50);

  SUBCASE("opens") {
    REQUIRE(gate->open().ok());
    REQUIRE(network.wait_for(50));
    CHECK(network.arrived_are(range(0, 50)));
    gate.reset();
    send(network, 50, 60);
    REQUIRE(network.wait_for(60));
  }
  SUBCASE("discards") {
    gate->discard();
    CHECK(gate->statistics().packets_discarded == 40);
    send(network, 50, 60);
    CHECK(network.nothing_more_arrives());
    CHECK(network.arrived_are(range(0, 10)));
  }
  SUBCASE("goes on protecting: what was sealed first, then the rest") {
    REQUIRE(gate->release(epoch(9)).ok());
    CHECK(network.nothing_more_arrives());
    REQUIRE(gate->seal(epoch(1, 2)).ok());
    send(network, 50, 60);
    REQUIRE(gate->release(epoch(1, 2)).ok());
    REQUIRE(network.wait_for(20));
    CHECK(network.nothing_more_arrives());
    REQUIRE(gate->seal(epoch(2, 2)).ok());
    send(network, 60, 70);
    REQUIRE(gate->release(epoch(2, 2)).ok());
    REQUIRE(network.wait_for(60));
    CHECK(network.nothing_more_arrives());
    CHECK(network.arrived_are(range(0, 60)));
  }
  SUBCASE("is told that output of the rest waits") {
    std::atomic<int> calls = 0;
    gate->set_waiting_sink([&] { ++calls; });
    REQUIRE(eventually([&] { return calls >= 1; }));
    REQUIRE(gate->seal(epoch(1, 2)).ok());
    REQUIRE(eventually([&] { return calls >= 2; }));
  }
}

TEST_CASE("plug gate: killed while open, the guest's output goes on; a successor holds") {
  support::MemoryLog log;
  Network network({DeviceKind::tap, DeviceKind::tap});
  Holder holder(network);
  holder.order('o');
  send(network, 0, 10);
  holder.kill();
  send(network, 10, 20);
  REQUIRE(network.wait_for(20));
  output::PlugGateOptions options = network.options();
  options.leftovers = output::PlugLeftovers::adopt;
  auto gate = output::open_plug_gate(std::move(options), log);
  REQUIRE(gate);
  send(network, 20, 30);
  CHECK(network.nothing_more_arrives());
  REQUIRE((*gate)->seal(epoch(1)).ok());
  REQUIRE((*gate)->release(epoch(1)).ok());
  REQUIRE(network.wait_for(30));
  CHECK(network.arrived_are(range(0, 30)));
}

}  // namespace
}  // namespace libft::plug_lab
