// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plug_world.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netlink/route/link.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/veth.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

#include "open_switch.h"
#include "output/tap.h"

namespace libft::plug_lab {
namespace {

// Twice: a packet socket takes a VLAN tag out of the frame, and what follows moves by four bytes.
constexpr std::size_t kNumberAt = 18, kNumberAgainAt = 22;
constexpr std::uint8_t kSource[] = {0x02, 0x66, 0x74, 0x00, 0x00, 0x01};
constexpr std::uint32_t kProbe = 0xf0000000;

class Links {
 public:
  Links() : socket_(nl_socket_alloc()) { REQUIRE(nl_connect(socket_, NETLINK_ROUTE) == 0); }
  ~Links() { nl_socket_free(socket_); }

  void add_bridge(const std::string& name) {
    REQUIRE(rtnl_link_bridge_add(socket_, name.c_str()) == 0);
  }
  void add_veth(const std::string& name, const std::string& peer) {
    REQUIRE(rtnl_link_veth_add(socket_, name.c_str(), peer.c_str(), ::getpid()) == 0);
  }
  void remove(const std::string& name) {
    const auto link = find(name);
    if (link) rtnl_link_delete(socket_, link.get());
  }
  // Without IPv6: what the kernel sent by a guest's end of a pair would be the guest's output.
  void up(const std::string& name) {
    std::ofstream no_ipv6("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6");
    no_ipv6 << "1" << std::endl;
    REQUIRE(no_ipv6.good());
    change(name, [](rtnl_link* change) { rtnl_link_set_flags(change, IFF_UP); });
  }
  void enslave(const std::string& name, const std::string& master) {
    const auto index = ::if_nametoindex(master.c_str());
    change(name, [&](rtnl_link* change) { rtnl_link_set_master(change, static_cast<int>(index)); });
  }

 private:
  using Link = std::unique_ptr<rtnl_link, decltype(&rtnl_link_put)>;
  Link find(const std::string& name) {
    rtnl_link* link = nullptr;
    rtnl_link_get_kernel(socket_, 0, name.c_str(), &link);
    return {link, &rtnl_link_put};
  }
  template <class Set>
  void change(const std::string& name, Set set) {
    const auto link = find(name);
    REQUIRE(link);
    const Link wanted(rtnl_link_alloc(), &rtnl_link_put);
    set(wanted.get());
    REQUIRE(rtnl_link_change(socket_, link.get(), wanted.get(), 0) == 0);
  }
  nl_sock* socket_;
};

os::ScopedFd packet_socket(const std::string& device, std::uint16_t protocol) {
  os::ScopedFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  REQUIRE(socket.valid());
  const int bytes = 64 << 20, on = 1;
  REQUIRE(::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) == 0);
  REQUIRE(::setsockopt(socket.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) == 0);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(::if_nametoindex(device.c_str()));
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return socket;
}

// A veth pair puts frames into the backlog of whichever processor sends, and two backlogs overtake
// each other. What is tested is the order in which frames leave the gate: one backlog for them all.
void keep_order(const std::string& device) {
  std::ofstream processors("/sys/class/net/" + device + "/queues/rx-0/rps_cpus");
  processors << "1" << std::endl;
  REQUIRE(processors.good());
}

std::vector<std::uint8_t> frame(std::uint32_t number, std::uint16_t protocol, std::size_t bytes) {
  std::vector<std::uint8_t> frame(std::max<std::size_t>(bytes, 60));
  std::fill_n(frame.begin(), 6, std::uint8_t{0xff});
  std::copy(std::begin(kSource), std::end(kSource), frame.begin() + 6);
  const std::uint16_t type = htons(protocol);
  std::memcpy(&frame[12], &type, sizeof type);
  std::memcpy(&frame[kNumberAt], &number, sizeof number);
  std::memcpy(&frame[kNumberAgainAt], &number, sizeof number);
  return frame;
}

}  // namespace

Network::Network(std::vector<DeviceKind> devices, BridgeKind kind) : kind_(kind) {
  static unsigned networks = 0;
  const std::string n = std::to_string(++networks);
  guest_ = *GuestId::from_name("guest-" + n);
  bridge_ = "br" + n;
  probe_ = "prb" + n;
  Links links;
  add_bridge();
  const auto pair = [&](const std::string& inside, const std::string& far) {
    links.add_veth(inside, far);
    enslave(inside);
    links.up(inside);
    links.up(far);
    links_.push_back(inside);
  };
  pair("out" + n + "a", "out" + n + "b");
  keep_order("out" + n + "b");
  pair(probe_, probe_ + "g");
  outside_ = packet_socket("out" + n + "b", ETH_P_ALL);
  probe_socket_ = packet_socket(probe_ + "g", 0);
  for (unsigned i = 0; i < devices.size(); ++i) {
    const std::string name = "vif" + n + "." + std::to_string(i);
    if (devices[i] == DeviceKind::tap) {
      auto tap = output::open_tap(name);
      REQUIRE(tap);
      guests_.push_back(std::move(*tap));
      enslave(name);
      links.up(name);
    } else {
      pair(name, name + "g");
      guests_.push_back(packet_socket(name + "g", 0));
    }
    devices_.push_back(name);
  }
}

void Network::add_bridge() {
  if (kind_ == BridgeKind::open_vswitch) {
    start_open_switch();
    return add_switch(bridge_);
  }
  Links links;
  links.add_bridge(bridge_);
  links.up(bridge_);
}

void Network::enslave(const std::string& device) {
  if (kind_ == BridgeKind::open_vswitch) return add_port(device, bridge_);
  Links().enslave(device, bridge_);
}

Network::~Network() {
  CHECK(output::remove_plug_gate(guest_, devices_).ok());
  Links links;
  for (const std::string& link : links_) links.remove(link);
  if (kind_ == BridgeKind::open_vswitch)
    remove_switch(bridge_);
  else
    links.remove(bridge_);
}

output::PlugGateOptions Network::options() const {
  output::PlugGateOptions options;
  options.guest = guest_;
  options.devices = devices_;
  return options;
}

void Network::send(std::uint32_t number, unsigned device, std::uint16_t protocol,
                   std::size_t bytes) {
  const auto sent = frame(number, protocol, bytes);
  // A packet socket, for the veth pair, can be full for a moment; a TAP device never is.
  while (::write(guests_[device].get(), sent.data(), sent.size()) < 0) {
    REQUIRE((errno == EAGAIN || errno == ENOBUFS));
    support::wait_readable(guests_[device].get(), POLLOUT, 10);
  }
}

const conformance::Numbers& Network::arrived() {
  std::array<std::uint8_t, 70'000> bytes{};
  for (;;) {
    const auto got = ::recv(outside_.get(), bytes.data(), bytes.size(), 0);
    if (got < 0) return arrived_;
    if (static_cast<std::size_t>(got) < kNumberAt + 4 ||
        !std::equal(std::begin(kSource), std::end(kSource), bytes.begin() + 6)) {
      continue;  // The kernel's own, such as a bridge's IGMP reports.
    }
    std::uint32_t number = 0;
    std::memcpy(&number, &bytes[kNumberAt], sizeof number);
    if (number >= kProbe) {
      probes_seen_ = number - kProbe;
    } else {
      arrived_.push_back(number);
    }
  }
}

bool Network::wait_for(std::size_t count) {
  while (arrived().size() < count) {
    if (!support::wait_readable(outside_.get(), POLLIN, support::kPatienceMs)) return false;
  }
  return true;
}

bool Network::arrived_are(const conformance::Numbers& expected) {
  const auto& numbers = arrived();
  const auto [mine, theirs] =
      std::mismatch(numbers.begin(), numbers.end(), expected.begin(), expected.end());
  if (mine == numbers.end() && theirs == expected.end()) return true;
  MESSAGE("arrived " << numbers.size() << " instead of " << expected.size() << ", first other at "
                     << (mine - numbers.begin()));
  for (auto it = mine; it != numbers.end() && it - mine < 12; ++it) MESSAGE("  arrived " << *it);
  return false;
}

bool Network::nothing_more_arrives() {
  const std::size_t before = arrived().size();
  for (int round = 0; round < 20; ++round) {
    const auto probe = frame(kProbe + ++probes_, 0x88b5, 60);
    REQUIRE(::write(probe_socket_.get(), probe.data(), probe.size()) > 0);
    while (arrived(), probes_seen_ < probes_) {
      const bool readable = support::wait_readable(outside_.get(), POLLIN, support::kPatienceMs);
      REQUIRE_MESSAGE(readable, "probe " << probes_ << " is lost, of the others " << probes_seen_);
    }
  }
  for (std::size_t i = before; i < arrived_.size(); ++i) MESSAGE("arrived: " << arrived_[i]);
  return arrived_.size() == before;
}

std::unique_ptr<PlugWorld> PlugWorld::create(std::uint32_t, std::uint64_t bytes_max) {
  std::unique_ptr<PlugWorld> world(new PlugWorld);
  output::PlugGateOptions options = world->network_.options();
  options.bytes_held_max = bytes_max;
  auto gate = output::open_plug_gate(std::move(options), world->log_);
  if (!gate) FAIL(gate.error().to_string());
  world->gate_ = std::move(*gate);
  return world;
}

bool PlugWorld::send(std::uint32_t number) {
  network_.send(number);
  return true;
}

// What the kernel's queues let out is on its way; what they did not shall not arrive.
const conformance::Numbers& PlugWorld::arrived() {
  REQUIRE(network_.wait_for(gate_->statistics().packets_released));
  REQUIRE(network_.nothing_more_arrives());
  return network_.arrived();
}

}  // namespace libft::plug_lab
