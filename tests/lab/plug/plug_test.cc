// SPDX-License-Identifier: LGPL-2.1-or-later
// What the plug gate promises beyond the suite of every gate.
#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

#include "output/plug_rig.h"
#include "plug_world.h"

namespace libft::plug_lab {
namespace {

using conformance::epoch;
using conformance::Numbers;
using conformance::range;
using output::open_plug_gate;
using output::PlugGateOptions;

std::unique_ptr<OutputGate> open_gate(PlugGateOptions options, Log& log) {
  auto gate = open_plug_gate(std::move(options), log);
  if (!gate) FAIL(gate.error().to_string());
  return std::move(*gate);
}

bool exists(const std::string& device) { return ::if_nametoindex(device.c_str()) != 0; }

// False: there is no such device, or it is down.
bool try_send_by(const std::string& device) {
  const os::ScopedFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
  const std::array<char, 60> frame{};
  return ::sendto(socket.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to),
                  sizeof to) == static_cast<ssize_t>(frame.size());
}

void send_by(const std::string& device) { REQUIRE(try_send_by(device)); }

Numbers sorted(Numbers numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

TEST_CASE("plug gate: frames of every protocol are held") {
  support::MemoryLog log;
  Network network;
  const auto gate = open_gate(network.options(), log);
  // IPv4, ARP, IPv6, a VLAN, PPPoE, LLDP, one of nobody, and a length as of 802.3.
  const std::uint16_t protocols[] = {0x0800, 0x0806, 0x86dd, 0x8100,
                                     0x8864, 0x88cc, 0x88b5, 0x002e};
  std::uint32_t number = 0;
  for (const std::uint16_t protocol : protocols) network.send(number++, 0, protocol);
  network.send(number++, 0, 0x88b5, 1500);
  CHECK(gate->statistics().packets_held == number);
  CHECK(network.nothing_more_arrives());
  REQUIRE(gate->seal(epoch(1)).ok());
  REQUIRE(gate->release(epoch(1)).ok());
  REQUIRE(network.wait_for(number));
  CHECK(network.arrived_are(range(0, number)));
}

TEST_CASE("plug gate: all devices of a guest are sealed together") {
  support::MemoryLog log;
  Network network({DeviceKind::tap, DeviceKind::veth, DeviceKind::tap});
  const auto gate = open_gate(network.options(), log);
  const auto holds = [&](std::uint64_t packets) {
    return eventually([&] { return gate->statistics().packets_held == packets; });
  };
  for (std::uint32_t n = 0; n < 9; ++n) network.send(n, n % 3);
  REQUIRE(holds(9));
  REQUIRE(gate->seal(epoch(1)).ok());
  for (std::uint32_t n = 9; n < 18; ++n) network.send(n, n % 3);
  REQUIRE(holds(18));
  CHECK(network.nothing_more_arrives());
  REQUIRE(gate->release(epoch(1)).ok());
  REQUIRE(network.wait_for(9));
  CHECK(network.nothing_more_arrives());
  CHECK(sorted(network.arrived()) == range(0, 9));
  REQUIRE(gate->seal(epoch(2)).ok());
  REQUIRE(gate->release(epoch(2)).ok());
  REQUIRE(network.wait_for(18));
  CHECK(sorted(network.arrived()) == range(0, 18));
  CHECK(log.text().empty());
}

TEST_CASE("plug gate: devices that are ports of Open vSwitch are held as in a bridge") {
  support::MemoryLog log;
  Network network({DeviceKind::tap, DeviceKind::veth}, BridgeKind::open_vswitch);
  const auto gate = open_gate(network.options(), log);
  const auto holds = [&](std::uint64_t packets) {
    return eventually([&] { return gate->statistics().packets_held == packets; });
  };
  for (std::uint32_t n = 0; n < 10; ++n) network.send(n, n % 2);
  REQUIRE(holds(10));
  CHECK(network.nothing_more_arrives());
  REQUIRE(gate->seal(epoch(1)).ok());
  for (std::uint32_t n = 10; n < 20; ++n) network.send(n, n % 2, 0x0806);
  REQUIRE(holds(20));
  REQUIRE(gate->release(epoch(1)).ok());
  REQUIRE(network.wait_for(10));
  CHECK(network.nothing_more_arrives());
  CHECK(sorted(network.arrived()) == range(0, 10));
  gate->discard();
  network.send(20);
  REQUIRE(gate->open().ok());
  REQUIRE(network.wait_for(11));
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived().back() == 20);
  CHECK(log.text().empty());
}

TEST_CASE("plug gate: at its limit it drops, counts, says so, and goes on") {
  support::MemoryLog log;
  Network network;
  PlugGateOptions options = network.options();
  options.bytes_held_max = 16 << 10;
  const auto gate = open_gate(std::move(options), log);
  CHECK(gate->limits().bytes_held_max == 16 << 10);
  for (std::uint32_t n = 0; n < 300; ++n) network.send(n);
  const GateStatistics full = gate->statistics();
  CHECK(full.packets_held == (8 << 10) / 60);
  CHECK(full.packets_dropped == 300 - full.packets_held);
  CHECK(eventually([&] { return log.text().find("were dropped") != std::string::npos; }));
  REQUIRE(gate->seal(epoch(1)).ok());
  network.send(1000);  // The next epoch has room of its own.
  CHECK(gate->statistics().packets_dropped == full.packets_dropped);
  REQUIRE(gate->release(epoch(1)).ok());
  REQUIRE(network.wait_for(full.packets_held));
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived_are(range(0, static_cast<std::uint32_t>(full.packets_held))));
  REQUIRE(gate->open().ok());
  network.send(1001);
  REQUIRE(network.wait_for(full.packets_held + 2));
  CHECK(network.arrived().back() == 1001);
}

output::LinkState link(const std::string& device) {
  auto netlink = output::NetlinkSocket::open();
  REQUIRE(netlink);
  std::optional<output::LinkState> state;
  REQUIRE(netlink
              ->ask(output::get_link(device), "look",
                    [&](nlmsghdr& message) { state = output::parse_link(message); })
              .ok());
  REQUIRE(state);
  return *state;
}

// An ifb device that nobody keeps quiet.
class TalkativeIfb {
 public:
  TalkativeIfb() {
    REQUIRE(netlink_);
    REQUIRE(netlink_->ask(output::add_ifb(name_, "test"), "add").ok());
    REQUIRE(netlink_->ask(output::set_link(look().ifindex, true), "up").ok());
  }
  ~TalkativeIfb() { CHECK(netlink_->ask(output::delete_link(look().ifindex), "delete").ok()); }
  output::LinkState look() const { return link(name_); }

 private:
  Result<output::NetlinkSocket> netlink_ = output::NetlinkSocket::open();
  std::string name_ = "ifbtalks";
};

std::string setting(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  file >> text;
  return text;
}

TEST_CASE("plug gate: with IPv6 on, the kernel sends nothing by its devices") {
  REQUIRE(setting("/proc/sys/net/ipv6/conf/default/disable_ipv6") == "0");
  REQUIRE(setting("/proc/sys/net/ipv6/conf/all/disable_ipv6") == "0");
  support::MemoryLog log;
  Network network;
  auto gate = open_gate(network.options(), log);
  const auto queues = output::plug_queue_names(network.guest());
  for (const std::string& name : queues) {
    // Else it would ask for neighbours and groups, with or without an address.
    const auto flags = std::stoul(setting("/sys/class/net/" + name + "/flags"), nullptr, 16);
    CHECK((flags & (IFF_UP | IFF_NOARP | IFF_MULTICAST)) == (IFF_UP | IFF_NOARP));
  }
  // A later one has solicited routers twice, and dropped it: the gate's had the time for it.
  const TalkativeIfb other;
  REQUIRE(eventually([&] { return other.look().packets_from_dropped >= 2; }));
  CHECK(other.look().packets_from == other.look().packets_from_dropped);
  CHECK(other.look().packets_to == 0);

  CHECK(gate->statistics().packets_held == 0);
  for (std::uint32_t n = 0; n < 4; ++n) {
    network.send(n);
    REQUIRE(gate->seal(epoch(n + 1)).ok());
    REQUIRE(gate->release(epoch(n + 1)).ok());
    REQUIRE(network.wait_for(n + 1));
  }
  for (const std::string& name : queues) CHECK(link(name).packets_from_dropped == 0);
  CHECK(gate->statistics().packets_released == 4);
  CHECK(network.arrived_are(range(0, 4)));
}

// The kernel may (an address that somebody gave them), or any program.
TEST_CASE("plug gate: what somebody sends by its own devices goes nowhere, and stops nothing") {
  support::MemoryLog log;
  Network network;
  auto gate = open_gate(network.options(), log);
  const auto queues = output::plug_queue_names(network.guest());
  const auto stray = [&] {
    for (const std::string& name : queues) send_by(name);
  };
  stray();
  CHECK(gate->statistics().packets_held == 2);  // In the queue nothing tells them apart.
  for (std::uint32_t n = 0; n < 40; ++n) {
    network.send(n);
    REQUIRE(gate->seal(epoch(n + 1)).ok());
    stray();
    REQUIRE(gate->release(epoch(n + 1)).ok());
    stray();
    REQUIRE(network.wait_for(n + 1));
    REQUIRE(eventually([&] { return gate->statistics().packets_released == n + 1; }));
  }
  CHECK(network.nothing_more_arrives());
  network.send(40);
  REQUIRE(gate->seal(epoch(41)).ok());
  network.send(41);
  stray();
  REQUIRE(gate->open().ok());
  REQUIRE(network.wait_for(42));
  stray();
  REQUIRE(gate->hold().ok());
  stray();
  gate->discard();
  network.send(42);
  REQUIRE(gate->seal(epoch(42)).ok());
  REQUIRE(gate->open().ok());
  REQUIRE(network.wait_for(43));
  CHECK(eventually([&] { return gate->statistics().packets_released == 43; }));
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived_are(range(0, 43)));
  gate.reset();
  CHECK_FALSE(exists(queues[0]));
}

TEST_CASE("plug gate: strays while a gate is made are in nobody's epoch") {
  support::MemoryLog log;
  Network network;
  const auto queues = output::plug_queue_names(network.guest());
  std::atomic<unsigned> strays = 0;
  std::jthread somebody([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      for (const std::string& name : queues) strays += try_send_by(name) ? 1 : 0;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  for (std::uint32_t n = 0; n < 40; n += 2) {
    const auto gate = open_gate(network.options(), log);
    network.send(n);
    REQUIRE(gate->seal(epoch(1)).ok());
    REQUIRE(gate->release(epoch(1)).ok());
    REQUIRE(network.wait_for(n + 1));
    REQUIRE(gate->open().ok());
    network.send(n + 1);
    REQUIRE(network.wait_for(n + 2));
  }
  CHECK(strays > 20);
  CHECK(network.arrived_are(range(0, 40)));
}

TEST_CASE("plug gate: a release that may not happen yet happens when it may") {
  support::MemoryLog log;
  Network network;
  std::atomic<bool> may = false;
  PlugGateOptions options = network.options();
  options.may_release = [&] { return may.load(); };
  const auto gate = open_gate(std::move(options), log);
  network.send(0);
  REQUIRE(gate->seal(epoch(1)).ok());
  network.send(1);
  REQUIRE(gate->release(epoch(1)).ok());
  CHECK(network.nothing_more_arrives());
  CHECK(gate->seal(epoch(2)).code() == Code::exhausted);
  may = true;
  REQUIRE(network.wait_for(1));
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived_are({0}));
  CHECK(eventually([&] { return gate->seal(epoch(2)).ok(); }));

  may = false;
  network.send(2);
  REQUIRE(gate->open().ok());
  CHECK(network.nothing_more_arrives());
  may = true;
  REQUIRE(network.wait_for(3));
  CHECK(network.arrived_are(range(0, 3)));
}

TEST_CASE("plug gate: opened, it lets out both epochs in order") {
  support::MemoryLog log;
  Network network;
  const auto gate = open_gate(network.options(), log);
  for (std::uint32_t round = 0; round < 20; ++round) {
    const std::uint32_t first = round * 400;
    for (std::uint32_t n = first; n < first + 200; ++n) network.send(n);
    REQUIRE(gate->seal(epoch(round + 1)).ok());
    for (std::uint32_t n = first + 200; n < first + 400; ++n) network.send(n);
    REQUIRE(gate->open().ok());
    REQUIRE(network.wait_for(first + 400));
    REQUIRE(gate->hold().ok());
  }
  CHECK(network.arrived_are(range(0, 8000)));
  CHECK(gate->statistics().packets_released == 8000);
}

TEST_CASE("plug gate: an open one goes without a trace, a held one stays held") {
  support::MemoryLog log;
  Network network;
  const auto queues = output::plug_queue_names(network.guest());
  auto gate = open_gate(network.options(), log);
  CHECK(exists(queues[0]));
  CHECK(open_plug_gate(network.options(), log).error().code() == Code::busy);
  network.send(0);
  REQUIRE(gate->open().ok());
  gate.reset();
  CHECK_FALSE(exists(queues[0]));
  CHECK_FALSE(exists(queues[1]));
  network.send(1);
  REQUIRE(network.wait_for(2));

  gate = open_gate(network.options(), log);
  gate.reset();
  CHECK(exists(queues[0]));
  network.send(2);
  CHECK(network.nothing_more_arrives());
  CHECK(open_plug_gate(network.options(), log).error().code() == Code::busy);
  REQUIRE(output::remove_plug_gate(network.guest(), network.devices()).ok());
  CHECK_FALSE(exists(queues[0]));
  network.send(3);
  REQUIRE(network.wait_for(3));
  CHECK(network.arrived_are({0, 1, 3}));
}

// An ingress queue of somebody else, as Open vSwitch's policing, Cilium or a script attach it.
class SomebodyElse {
 public:
  explicit SomebodyElse(const std::string& device)
      : ifindex_(static_cast<int>(::if_nametoindex(device.c_str()))) {
    REQUIRE(netlink_);
    REQUIRE(netlink_->ask(output::add_ingress(ifindex_), "add").ok());
  }
  void add_filter() {
    REQUIRE(netlink_->ask(output::set_redirect(7, 1), "redirect").ok());
    REQUIRE(netlink_->ask(output::add_filter(ifindex_, 7), "filter").ok());
  }
  unsigned filters() {
    unsigned filters = 0;
    REQUIRE(netlink_
                ->ask(output::list_filters(ifindex_), "list",
                      [&](nlmsghdr& message) {
                        const auto filter = output::parse_filter(message);
                        if (filter && filter->redirect_index != 0) ++filters;
                      })
                .ok());
    return filters;
  }
  bool still_there() { return !netlink_->ask(output::add_ingress(ifindex_), "add again").ok(); }

 private:
  Result<output::NetlinkSocket> netlink_ = output::NetlinkSocket::open();
  int ifindex_;
};

TEST_CASE("plug gate: an ingress queue of somebody else serves, and stays") {
  support::MemoryLog log;
  Network network;
  SomebodyElse other(network.devices()[0]);
  auto gate = open_gate(network.options(), log);
  network.send(0);
  CHECK(network.nothing_more_arrives());
  CHECK(other.filters() == 1);
  REQUIRE(gate->open().ok());
  REQUIRE(network.wait_for(1));
  gate.reset();
  CHECK(other.filters() == 0);
  CHECK(other.still_there());
}

TEST_CASE("plug gate: a filter of somebody else is refused and left alone") {
  support::MemoryLog log;
  Network network({DeviceKind::tap, DeviceKind::tap});
  SomebodyElse other(network.devices()[1]);
  other.add_filter();
  const auto gate = open_plug_gate(network.options(), log);
  REQUIRE_FALSE(gate);
  CHECK(gate.error().code() == Code::refused);
  CHECK(gate.error().message().find("somebody else") != std::string::npos);
  CHECK(other.filters() == 1);
  CHECK_FALSE(exists(output::plug_queue_names(network.guest())[0]));
  network.send(0);  // The first device, which was changed already, is as before.
  CHECK(network.wait_for(1));
}

TEST_CASE("plug gate: a link that goes down loses frames and lets none out early") {
  support::MemoryLog log;
  Network network;
  const auto gate = open_gate(network.options(), log);
  auto netlink = output::NetlinkSocket::open();
  REQUIRE(netlink);
  for (std::uint32_t n = 0; n < 5; ++n) network.send(n);
  REQUIRE(gate->seal(epoch(1)).ok());
  for (const std::string& name : output::plug_queue_names(network.guest())) {
    const int ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
    REQUIRE(netlink->ask(output::set_link(ifindex, false), "down").ok());
    REQUIRE(netlink->ask(output::set_link(ifindex, true), "up").ok());
  }
  for (std::uint32_t n = 5; n < 8; ++n) network.send(n);
  REQUIRE(gate->release(epoch(1)).ok());
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived().empty());
  REQUIRE(gate->seal(epoch(2)).ok());
  REQUIRE(gate->release(epoch(2)).ok());
  REQUIRE(network.wait_for(3));
  CHECK(network.arrived_are(range(5, 8)));
}

TEST_CASE("plug gate: without its ifb devices nothing leaves, and the loss is reported") {
  support::MemoryLog log;
  Network network;
  const auto gate = open_gate(network.options(), log);
  auto netlink = output::NetlinkSocket::open();
  REQUIRE(netlink);
  network.send(0);
  for (const std::string& name : output::plug_queue_names(network.guest())) {
    const int ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
    REQUIRE(netlink->ask(output::delete_link(ifindex), "delete").ok());
  }
  network.send(1);
  CHECK(network.nothing_more_arrives());
  CHECK(network.arrived().empty());
  CHECK(eventually([&] { return log.text().find("look at ft") != std::string::npos; }));
  CHECK_FALSE(gate->seal(epoch(1)).ok());
  CHECK_FALSE(gate->open().ok());
}

TEST_CASE("plug gate: two guests have nothing in common") {
  support::MemoryLog log;
  Network one, two;
  const auto first = open_gate(one.options(), log), second = open_gate(two.options(), log);
  one.send(1);
  two.send(2);
  REQUIRE(first->seal(epoch(1)).ok());
  REQUIRE(first->release(epoch(1)).ok());
  REQUIRE(one.wait_for(1));
  CHECK(two.nothing_more_arrives());
  CHECK(second->statistics().packets_held == 1);
  REQUIRE(second->open().ok());
  REQUIRE(two.wait_for(1));
  CHECK(one.arrived_are({1}));
  CHECK(two.arrived_are({2}));
}

TEST_CASE("plug gate: what a seal and a release cost") {
  using Clock = std::chrono::steady_clock;
  support::MemoryLog log;
  Network network({DeviceKind::tap, DeviceKind::tap});
  const auto gate = open_gate(network.options(), log);
  std::chrono::duration<double, std::micro> sealing{}, releasing{};
  constexpr std::uint32_t kRounds = 200;
  for (std::uint32_t n = 1; n <= kRounds; ++n) {
    for (std::uint32_t i = 0; i < 10; ++i) network.send(n, i % 2);
    const auto begin = Clock::now();
    REQUIRE(gate->seal(epoch(n)).ok());
    const auto sealed = Clock::now();
    REQUIRE(gate->release(epoch(n)).ok());
    sealing += sealed - begin;
    releasing += Clock::now() - sealed;
  }
  REQUIRE(network.wait_for(10 * kRounds));
  fmt::print("two devices, 10 frames an epoch: seal {:.0f} us, release {:.0f} us (emulated)\n",
             sealing.count() / kRounds, releasing.count() / kRounds);
}

}  // namespace
}  // namespace libft::plug_lab
