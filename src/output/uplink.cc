// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/uplink.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace libft::output {
namespace {

constexpr int kSocketBytes = 1 << 20;

// struct virtio_net_hdr of linux/virtio_net.h, which no C++ compiler reads ("class" is a field).
struct VnetHeader {
  std::uint8_t flags, gso_type;
  std::uint16_t header_bytes, gso_bytes, checksum_start, checksum_offset;
};
constexpr std::uint8_t kNeedsChecksum = 1, kNotSegmented = 0;

struct Port {
  int index = 0, bridge = 0;
};

Port port_from(const nlmsghdr& message) {
  const auto* const link = static_cast<const ifinfomsg*>(NLMSG_DATA(&message));
  Port port{link->ifi_index, 0};
  auto left = static_cast<unsigned>(IFLA_PAYLOAD(&message));
  for (const rtattr* part = IFLA_RTA(link); RTA_OK(part, left); part = RTA_NEXT(part, left))
    if (part->rta_type == IFLA_MASTER) std::memcpy(&port.bridge, RTA_DATA(part), sizeof(int));
  return port;
}

// One datagram of the kernel's list; false after its last.
Result<bool> take_ports(int socket, std::vector<Port>& ports) {
  alignas(nlmsghdr) std::array<char, 32768> buffer;
  const auto got = ::recv(socket, buffer.data(), buffer.size(), 0);
  if (got < 0 && errno == EINTR) return true;
  if (got < 0) return failure(os::errno_status("list the bridge's ports"));
  auto left = static_cast<unsigned>(got);
  for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data());
       NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
    if (message->nlmsg_type == NLMSG_DONE) return false;
    if (message->nlmsg_type == NLMSG_ERROR)
      return failure(os::errno_status("list the bridge's ports", EPROTO));
    if (message->nlmsg_type == RTM_NEWLINK) ports.push_back(port_from(*message));
  }
  return true;
}

Result<std::vector<Port>> list_ports() {
  const os::ScopedFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.valid()) return failure(os::errno_status("open an rtnetlink socket"));
  struct {
    nlmsghdr header;
    ifinfomsg link;
  } list{};
  list.header.nlmsg_len = sizeof list;
  list.header.nlmsg_type = RTM_GETLINK;
  list.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  if (::send(socket.get(), &list, sizeof list, 0) < 0)
    return failure(os::errno_status("list the bridge's ports"));
  std::vector<Port> ports;
  for (bool more = true; more;) {
    FT_ASSIGN(more, take_ports(socket.get(), ports));
  }
  return ports;
}

Result<std::vector<int>> ports_beside(const std::string& tap) {
  FT_ASSIGN(const auto ports, list_ports());
  const int own = static_cast<int>(::if_nametoindex(tap.c_str()));
  int bridge = 0;
  for (const Port& port : ports)
    if (port.index == own) bridge = port.bridge;
  std::vector<int> beside;
  for (const Port& port : ports)
    if (bridge != 0 && port.bridge == bridge && port.index != own) beside.push_back(port.index);
  return beside;
}

// Classic BPF (linux/filter.h): the whole frame when it comes in, has no VLAN tag, and is for the
// guest.
std::vector<sock_filter> filter_for(std::span<const MacAddress> guest) {
  constexpr auto ancillary = [](int what) { return static_cast<unsigned>(SKF_AD_OFF + what); };
  std::vector<sock_filter> code{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ancillary(SKF_AD_PKTTYPE)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 2, 0),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ancillary(SKF_AD_VLAN_TAG_PRESENT)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  for (const MacAddress& address : guest) {
    std::uint16_t first;
    std::uint32_t rest;
    std::memcpy(&first, address.data(), sizeof first);
    std::memcpy(&rest, address.data() + sizeof first, sizeof rest);
    const sock_filter compare[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(rest), 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohs(first), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, ~0u),
    };
    code.insert(code.end(), std::begin(compare), std::end(compare));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, 0));
  return code;
}

// Protocol 0 hears nothing: the filter is there before the first frame.
Result<os::ScopedFd> listen_at(int port, std::span<const MacAddress> guest) {
  os::ScopedFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid())
    return failure(os::errno_status("open a packet socket (it needs CAP_NET_RAW)"));
  auto code = filter_for(guest);
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  const int yes = 1;
  const sockaddr_ll address{.sll_family = AF_PACKET,
                            .sll_protocol = htons(ETH_P_ALL),
                            .sll_ifindex = port,
                            .sll_hatype = 0,
                            .sll_pkttype = 0,
                            .sll_halen = 0,
                            .sll_addr = {}};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kSocketBytes, sizeof kSocketBytes);
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0 ||
      ::setsockopt(socket.get(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0 ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return failure(os::errno_status("listen at a port of the bridge"));
  return socket;
}

// The field holds the sum of the pseudo header; the rest of the packet is added to it.
void fill_checksum(std::span<std::byte> frame, std::size_t start, std::size_t field) {
  if (start + field + 2 > frame.size()) return;
  const auto part = frame.subspan(start);
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < part.size(); ++i)
    sum += std::to_integer<std::uint32_t>(part[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  std::uint32_t checksum = ~sum & 0xffff;
  if (checksum == 0) checksum = 0xffff;  // Zero would mean "none" in UDP; in TCP they are equal.
  part[field] = static_cast<std::byte>(checksum >> 8);
  part[field + 1] = static_cast<std::byte>(checksum & 0xff);
}

}  // namespace

Result<std::vector<os::ScopedFd>> listen_beside(const std::string& tap,
                                                std::span<const MacAddress> guest) {
  std::vector<os::ScopedFd> sockets;
  if (guest.empty()) return sockets;
  FT_ASSIGN(const auto ports, ports_beside(tap));
  for (const int port : ports) {
    FT_ASSIGN(auto socket, listen_at(port, guest));
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

std::span<std::byte> receive_frame(int socket, std::span<std::byte> room) {
  for (;;) {
    VnetHeader header{};
    iovec parts[] = {{&header, sizeof header}, {room.data(), room.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = std::size(parts);
    const auto got = ::recvmsg(socket, &message, 0);
    if (got < 0 && (errno == EINTR || errno == EINVAL))
      continue;  // EINVAL: one that no such header describes.
    if (got < static_cast<ssize_t>(sizeof header)) return {};
    if (header.gso_type != kNotSegmented || (message.msg_flags & MSG_TRUNC) != 0) continue;
    const auto frame = room.first(static_cast<std::size_t>(got) - sizeof header);
    if ((header.flags & kNeedsChecksum) != 0)
      fill_checksum(frame, header.checksum_start, header.checksum_offset);
    return frame;
  }
}

}  // namespace libft::output
