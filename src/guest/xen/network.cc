// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/network.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "os/child.h"
#include "os/fd.h"

namespace libft::xen {
namespace {

constexpr char kSwitchScript[] = "/etc/xen/scripts/vif-openvswitch";
constexpr std::chrono::seconds kScriptPatience{40};  // It gives ovs-vsctl 30.

constexpr Mac kNobody{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac kEverybody{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

Result<ifreq> request_for(const std::string& interface) {
  ifreq request = {};
  if (interface.empty() || interface.size() >= sizeof request.ifr_name)
    return failure(Code::invalid, "no name of an interface: \"" + interface + "\"");
  std::copy(interface.begin(), interface.end(), request.ifr_name);
  return request;
}

Result<os::ScopedFd> control_socket() {
  os::ScopedFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return failure(os::errno_status("socket"));
  return fd;
}

Status run(std::vector<std::string> argv, std::vector<std::string> environment) {
  os::ChildOptions options;
  options.argv = std::move(argv);
  options.environment = std::move(environment);
  FT_ASSIGN(auto child, os::Child::start(options));
  FT_ASSIGN(const auto end, child.wait(kScriptPatience));
  if (end.clean()) return {};
  return Status(Code::io, fmt::format("{}: {}", options.argv.front(), os::to_string(end)));
}

Status set_up(int fd, ifreq request) {
  if (::ioctl(fd, SIOCGIFFLAGS, &request) < 0) return os::errno_status("ask for its flags");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(fd, SIOCSIFFLAGS, &request) < 0) return os::errno_status("set it up");
  return {};
}

}  // namespace

Result<Mac> mac_from(const std::string& text) {
  Mac mac{};
  unsigned part[6] = {};
  int end = 0;
  const int parts = std::sscanf(text.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%n", &part[0], &part[1],
                                &part[2], &part[3], &part[4], &part[5], &end);
  if (parts != 6 || static_cast<std::size_t>(end) != text.size())
    return failure(Code::invalid, "no address of an interface: \"" + text + "\"");
  for (std::size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(part[i]);
  return mac;
}

Status join_bridge(const std::string& interface, const std::string& bridge) {
  const std::string doing = fmt::format("put {} into the bridge {}", interface, bridge);
  FT_ASSIGN(const os::ScopedFd fd, control_socket());
  FT_ASSIGN(ifreq port, request_for(interface));
  FT_ASSIGN(ifreq of, request_for(bridge));
  const unsigned index = ::if_nametoindex(interface.c_str());
  if (index == 0) return os::errno_status(doing);
  port.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::copy(kNobody.begin(), kNobody.end(),
            reinterpret_cast<std::uint8_t*>(port.ifr_hwaddr.sa_data));
  if (::ioctl(fd.get(), SIOCSIFHWADDR, &port) < 0) return os::errno_status(doing + ": address");
  ifreq mtu = of;
  if (::ioctl(fd.get(), SIOCGIFMTU, &mtu) == 0) {
    std::memcpy(mtu.ifr_name, port.ifr_name, sizeof mtu.ifr_name);
    (void)::ioctl(fd.get(), SIOCSIFMTU, &mtu);  // As the bridge's, where the interface can.
  }
  of.ifr_ifindex = static_cast<int>(index);
  if (::ioctl(fd.get(), SIOCBRADDIF, &of) < 0 && errno != EBUSY) return os::errno_status(doing);
  return set_up(fd.get(), port).within(doing);
}

Status join_switch(const std::string& interface, const std::string& backend) {
  const std::string doing = fmt::format("make {} a port of Open vSwitch", interface);
  if (::access(kSwitchScript, X_OK) != 0)
    return Status(Code::unsupported, fmt::format("{}: {} is not on this host: install xen-utils",
                                                 doing, kSwitchScript));
  // The script would say so in xenstore only.
  if (!run({"ovs-vsctl", "--version"}, {}).ok())
    return Status(Code::unsupported, doing +
                                         ": there is no ovs-vsctl on this host: install "
                                         "openvswitch-switch, and make the guest's bridge");
  const bool tap = interface.ends_with("-emu");  // The device model's, as libxl asks for it.
  return run({kSwitchScript, tap ? "add" : "online", tap ? "type_if=tap" : "type_if=vif"},
             {"XENBUS_PATH=" + backend, "vif=" + interface, "INTERFACE=" + interface,
              "script=" + std::string(kSwitchScript)})
      .within(doing);
}

void leave_switch(const std::string& interface) {
  (void)run({"ovs-vsctl", "--timeout=10", "--", "--if-exists", "del-port", interface}, {});
}

Status announce(const std::string& bridge, const Mac& mac) {
  os::ScopedFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return os::errno_status("announce the guest: socket");
  // RFC 903: who am I? Sender and target are the guest; 60 bytes is Ethernet's smallest frame.
  std::array<std::uint8_t, 60> frame{};
  auto at = std::copy(kEverybody.begin(), kEverybody.end(), frame.begin());
  at = std::copy(mac.begin(), mac.end(), at);
  constexpr std::uint8_t kRequest[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
  at = std::copy(std::begin(kRequest), std::end(kRequest), at);
  at = std::copy(mac.begin(), mac.end(), at) + 4;
  std::copy(mac.begin(), mac.end(), at);
  sockaddr_ll to = {};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(::if_nametoindex(bridge.c_str()));
  to.sll_halen = 6;
  std::copy(kEverybody.begin(), kEverybody.end(), to.sll_addr);
  if (::sendto(fd.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to),
               sizeof to) < 0)
    return os::errno_status("announce the guest on " + bridge);
  return {};
}

bool SystemNetwork::exists(const std::string& interface) {
  return ::if_nametoindex(interface.c_str()) != 0;
}

Status SystemNetwork::announce(const std::string& bridge, const std::string& mac) {
  FT_ASSIGN(const Mac address, mac_from(mac));
  return xen::announce(bridge, address);
}

}  // namespace libft::xen
