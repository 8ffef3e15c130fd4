// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/connecting.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <thread>

#include "demo/namespace.h"
#include "os/real_clock.h"
#include "os/thread.h"

namespace libft::demo {

Result<os::SocketAddress> address_of(const Destination& to) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(to.port);
  if (::inet_pton(AF_INET, to.address.c_str(), &address.sin_addr) != 1)
    return failure(Code::invalid, fmt::format("\"{}\" is no IPv4 address", to.address));
  return os::SocketAddress(reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// The thread that opened the socket decided its namespace; whoever uses it later does not matter.
Result<os::ScopedFd> connect_patiently(const Destination& to, Nanos patience) {
  FT_ASSIGN(const os::SocketAddress address, address_of(to));
  Result<os::ScopedFd> socket = failure(Code::internal, "the connecting thread did not run");
  os::start_thread("demo-connect", [&] {
    if (Status entered = enter_namespace(to.netns_fd); !entered.ok()) {
      socket = failure(entered);
      return;
    }
    const os::RealClock clock;
    const Time end = clock.now() + patience;
    do {
      socket = os::connect_socket(address, std::chrono::seconds{2});
      if (!socket) std::this_thread::sleep_for(Millis{50});  // The server may still be starting.
    } while (!socket && clock.now() < end);
  }).join();
  return socket;
}

}  // namespace libft::demo
