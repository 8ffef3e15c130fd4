// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/output_watch.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cerrno>

namespace libft::output {
namespace {

Result<os::ScopedFd> watch(int ifindex) {
  // Protocol 0: deaf until it is bound to its device.
  os::ScopedFd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return failure(os::errno_status("open a packet socket (as root)"));
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0) {
    return failure(os::errno_status("leave frames towards the guest out (Linux 4.20 or later)"));
  }
  // The smallest buffer that the kernel gives: full after a frame or two. Only a saving.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &on, sizeof on);
  sock_filter one_byte = BPF_STMT(BPF_RET | BPF_K, 1);
  const sock_fprog program{1, &one_byte};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = ifindex;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return failure(os::errno_status("watch a device"));
  }
  return socket;
}

}  // namespace

Result<OutputWatch> OutputWatch::open(const std::vector<int>& ifindexes) {
  OutputWatch opened;
  for (const int ifindex : ifindexes) {
    FT_ASSIGN(auto socket, watch(ifindex));
    opened.sockets_.push_back(std::move(socket));
  }
  return opened;
}

void OutputWatch::flush() const {
  char byte = 0;
  // A device that went down leaves one error behind, which the next call takes away.
  for (const os::ScopedFd& socket : sockets_) {
    while (::recv(socket.get(), &byte, 1, 0) >= 0 || errno == ENETDOWN || errno == EINTR) {
    }
  }
}

}  // namespace libft::output
