// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/hosts.h"

#include <fmt/format.h>
#include <net/if.h>

namespace libft::lab {
namespace {

constexpr std::array<Side, 2> kSides = {Side::a, Side::b};
constexpr const char* kPathNames[] = {"service", "replica", "heart"};
constexpr const char* kHostInterfaces[] = {"eth0", "rep0", "hb0"};

int number_of(Side side) { return side == Side::a ? 1 : 2; }

std::string port_name(Side side, std::size_t path) {
  return fmt::format("{}-{}", kPathNames[path], side == Side::a ? 'a' : 'b');
}

// forward_delay 0 without STP: a port forwards at once, as on a switch's edge port.
constexpr const char* kBridgeOptions = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";

}  // namespace

Result<std::unique_ptr<TwoHosts>> TwoHosts::create() {
  std::unique_ptr<TwoHosts> lab(new TwoHosts);
  FT_ASSIGN(lab->switches_, Namespace::create("switch"));
  FT_ASSIGN(lab->hosts_[0], Namespace::create("a"));
  FT_ASSIGN(lab->hosts_[1], Namespace::create("b"));
  FT_ASSIGN(lab->client_, Namespace::create("client"));
  FT_TRY(lab->join());
  FT_TRY(lab->find_links());
  return lab;
}

Status TwoHosts::join() {
  std::string wiring;
  for (const char* path : kPathNames) {
    wiring += fmt::format("link add {} {}\nlink set {} up\n", path, kBridgeOptions, path);
  }
  const auto plug = [&](const std::string& port, const char* bridge, const char* far_name,
                        const Namespace& far) {
    wiring += fmt::format(
        "link add {0} type veth peer name {1} netns {2}\n"
        "link set {0} master {3} up\n",
        port, far_name, far.path(), bridge);
  };
  plug("service-c", kPathNames[0], "eth0", *client_);
  for (const Side side : kSides) {
    for (std::size_t path = 0; path < kPaths; ++path) {
      plug(port_name(side, path), kPathNames[path], kHostInterfaces[path], host(side));
    }
  }
  FT_TRY(switches_->ip(wiring));
  FT_TRY(client_->ip(
      fmt::format("link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up\n", kClientAddress)));
  for (const Side side : kSides) {
    // A bridge takes the least of its ports' addresses, and changes it with them: give it one.
    FT_TRY(
        host(side).ip(fmt::format("link set lo up\n"
                                  "link add br0 address 02:00:0a:4d:00:0{0} {1}\n"
                                  "link set eth0 master br0 up\n"
                                  "link set br0 up\nlink set rep0 up\nlink set hb0 up\n"
                                  "addr add 10.77.0.{0}/24 dev br0\n"
                                  "addr add 10.78.0.{0}/24 dev rep0\n"
                                  "addr add 10.79.0.{0}/24 dev hb0\n",
                                  number_of(side), kBridgeOptions)));
  }
  return {};
}

Status TwoHosts::find_links() {
  Status found;
  switches_->within([&] {
    auto links = LinkSwitch::open();
    if (!links) {
      found = links.error();
      return;
    }
    links_ = std::make_unique<LinkSwitch>(std::move(*links));
    for (const Side side : kSides) {
      for (std::size_t path = 0; path < kPaths; ++path) {
        const unsigned port = ::if_nametoindex(port_name(side, path).c_str());
        if (port == 0) found = os::errno_status("find " + port_name(side, path));
        ports_[index(side)][path] = port;
      }
    }
  });
  return found;
}

std::string TwoHosts::service_address(Side side) {
  return fmt::format("10.77.0.{}", number_of(side));
}
std::string TwoHosts::replication_address(Side side) {
  return fmt::format("10.78.0.{}", number_of(side));
}
std::string TwoHosts::heartbeat_address(Side side) {
  return fmt::format("10.79.0.{}", number_of(side));
}

Status TwoHosts::add_tap(Side side, const std::string& name) {
  return host(side).ip(fmt::format("tuntap add {0} mode tap\nlink set {0} master br0 up\n", name));
}

Status TwoHosts::add_third() {
  FT_ASSIGN(third_, Namespace::create("c"));
  FT_TRY(
      switches_->ip(fmt::format("link add replica-c type veth peer name rep0 netns {}\n"
                                "link set replica-c master {} up\n",
                                third_->path(), kPathNames[1])));
  return third_->ip("link set lo up\nlink set rep0 up\naddr add 10.78.0.3/24 dev rep0\n");
}

Status TwoHosts::cut(Side side) { return links_->set(ports_[index(side)], LinkSwitch::To::down); }
Status TwoHosts::heal(Side side) { return links_->set(ports_[index(side)], LinkSwitch::To::up); }

Status TwoHosts::cut(Side side, Path path) {
  return links_->set({&ports_[index(side)][static_cast<std::size_t>(path)], 1},
                     LinkSwitch::To::down);
}
Status TwoHosts::heal(Side side, Path path) {
  return links_->set({&ports_[index(side)][static_cast<std::size_t>(path)], 1}, LinkSwitch::To::up);
}

}  // namespace libft::lab
