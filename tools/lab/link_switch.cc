// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/link_switch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace libft::lab {
namespace {

struct Request {
  nlmsghdr header;
  ifinfomsg link;
};
static_assert(sizeof(Request) == NLMSG_ALIGN(sizeof(Request)), "requests stand side by side");

Request request_for(unsigned index, LinkSwitch::To to) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = RTM_NEWLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.header.nlmsg_seq = index;
  request.link.ifi_family = AF_UNSPEC;
  request.link.ifi_index = static_cast<int>(index);
  request.link.ifi_change = IFF_UP;
  request.link.ifi_flags = to == LinkSwitch::To::up ? IFF_UP : 0;
  return request;
}

// One acknowledgement for each request; several may share a datagram.
Status read_acknowledgements(int socket, std::size_t wanted) {
  alignas(nlmsghdr) std::array<char, 8192> buffer;
  while (wanted > 0) {
    const auto got = ::recv(socket, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os::errno_status("rtnetlink");
    auto left = static_cast<unsigned>(got);
    for (auto* head = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(head, left);
         head = NLMSG_NEXT(head, left)) {
      if (head->nlmsg_type != NLMSG_ERROR) continue;
      nlmsgerr answer;
      std::memcpy(&answer, NLMSG_DATA(head), sizeof answer);
      if (answer.error != 0) return os::errno_status("rtnetlink: set a link", -answer.error);
      --wanted;
    }
  }
  return {};
}

}  // namespace

Result<LinkSwitch> LinkSwitch::open() {
  os::ScopedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return failure(os::errno_status("open an rtnetlink socket"));
  return LinkSwitch(std::move(fd));
}

Status LinkSwitch::set(std::span<const unsigned> interface_indexes, To to) {
  std::vector<Request> requests;
  for (const unsigned index : interface_indexes) requests.push_back(request_for(index, to));
  const std::lock_guard lock(mutex_);
  if (::send(socket_.get(), requests.data(), requests.size() * sizeof(Request), 0) < 0) {
    return os::errno_status("rtnetlink: send");
  }
  return read_acknowledgements(socket_.get(), requests.size());
}

}  // namespace libft::lab
