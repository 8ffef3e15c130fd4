// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/guest_stalls.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lab/guest/protocol.h"
#include "os/real_clock.h"

namespace libft::lab {
namespace {

constexpr Nanos kPatience = std::chrono::seconds{60};
constexpr Nanos kAskAgain = std::chrono::seconds{5};  // Output of a protected guest waits.

Time now() { return os::RealClock().now(); }

}  // namespace

Result<GuestStalls> GuestStalls::begin(XenPair& pair) {
  os::ScopedFd socket;
  pair.net().client().within([&] {
    socket = os::ScopedFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(LAB_QUERY_PORT);
    ::inet_pton(AF_INET, kGuestAddress, &to.sin_addr);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
      socket.reset();
  });
  if (!socket.valid()) return failure(Code::io, "no socket to the guest");
  GuestStalls stalls(std::move(socket));
  FT_TRY(stalls.forget());
  return stalls;
}

Status GuestStalls::forget() {
  const auto told = ask(0);
  return told ? Status{} : told.error();
}

Result<double> GuestStalls::longest(std::uint64_t n) {
  FT_ASSIGN(const auto ns, ask(n));
  return static_cast<double>(ns) / 1e6;
}

Result<std::uint64_t> GuestStalls::ask(std::uint64_t argument) {
  const Time end = now() + kPatience;
  while (now() < end) {
    const LabQuery query{LAB_QUERY_MAGIC, LAB_STALLS, argument};
    if (::send(socket_.get(), &query, sizeof query, 0) != sizeof query)
      return failure(os::errno_status("ask the guest about stalls"));
    pollfd readable{socket_.get(), POLLIN, 0};
    LabAnswer answer{};
    while (::poll(&readable, 1, static_cast<int>(kAskAgain / Millis{1})) == 1) {
      if (::recv(socket_.get(), &answer, sizeof answer, 0) != sizeof answer) continue;
      if (answer.magic == LAB_ANSWER_MAGIC && answer.kind == LAB_STALLS &&
          answer.argument == argument)
        return answer.value[1];
    }
  }
  return failure(Code::timeout, "the guest does not say how long it stalled");
}

}  // namespace libft::lab
