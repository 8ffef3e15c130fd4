// SPDX-License-Identifier: LGPL-2.1-or-later
// Real etcd servers for the arbiter's tests, on ports of loopback that were free a moment ago.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "conformance/arbiter_suite.h"
#include "failover/etcd_arbiter.h"
#include "os/child.h"
#include "os/socket.h"

namespace libft::conformance {

constexpr auto kGenerous = std::chrono::seconds{30};

inline os::ScopedFd listen_somewhere() {
  const auto at = os::resolve({"127.0.0.1", 0}, os::ResolveFor::listening);
  REQUIRE(at);
  auto fd = os::listen_socket(at->front());
  REQUIRE(fd);
  return std::move(*fd);
}

inline std::uint16_t port_of(const os::ScopedFd& fd) {
  return os::SocketAddress::local(fd.get())->port();
}

// A port that nobody listens on just now.
inline std::uint16_t unused_port() { return port_of(listen_somewhere()); }

// Without etcd here the whole program is skipped, and says so.
inline std::unique_ptr<os::Child> start_etcd(std::vector<std::string> arguments) {
  os::ChildOptions options;
  options.argv = std::move(arguments);
  options.argv.insert(options.argv.begin(), "etcd");
  auto child = os::Child::start(options);
  if (!child) {
    std::printf("skipped: %s (Debian: apt install etcd-server)\n",
                child.error().to_string().c_str());
    std::fflush(stdout);
    std::_Exit(77);
  }
  return std::make_unique<os::Child>(std::move(*child));
}

inline void wait_until_it_answers(Arbiter& arbiter) {
  const auto end = std::chrono::steady_clock::now() + kGenerous;
  for (;;) {
    const ReadAnswer answer = arbiter.read(guest_named("probe"));
    if (answer.outcome != ReadAnswer::Outcome::unknown) return;
    INFO(answer.detail);
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(Millis{20});
  }
}

}  // namespace libft::conformance
