// SPDX-License-Identifier: LGPL-2.1-or-later
// What a host hears of the frames for a guest that runs on the other one, through real bridges.
#include "output/uplink.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "lab/hosts.h"
#include "output/tap.h"

using namespace libft;
using namespace libft::lab;

namespace {

constexpr output::MacAddress kGuest{0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
constexpr const char* kGuestText = "52:54:00:12:34:56";
constexpr const char* kTap = "ft0";
constexpr std::size_t kUdpAt = 14 + 20, kPayloadAt = kUdpAt + 8;
constexpr int kPatienceMs = 30'000;

std::unique_ptr<TwoHosts> make_lab() {
  const Status root = become_namespace_root();
  auto lab = root.ok() ? TwoHosts::create() : failure(root);
  if (!lab) {
    std::printf("skipped: %s\n", lab.error().message().c_str());
    std::fflush(stdout);
    std::_Exit(77);
  }
  return std::move(*lab);
}

os::ScopedFd open_tap(TwoHosts& lab, Side side) {
  REQUIRE(lab.add_tap(side, kTap).ok());
  os::ScopedFd tap;
  lab.host(side).within([&] {
    if (auto opened = output::open_tap(kTap)) tap = std::move(*opened);
  });
  REQUIRE(tap.valid());
  return tap;
}

// The guest says where it is, as an announcement does, to everybody.
void announce(int tap) {
  std::vector<std::uint8_t> frame(60);
  std::fill_n(frame.begin(), 6, std::uint8_t{0xff});
  std::copy(kGuest.begin(), kGuest.end(), frame.begin() + 6);
  frame[12] = 0x88, frame[13] = 0xb5;  // A type for local experiments.
  REQUIRE(::write(tap, frame.data(), frame.size()) == static_cast<ssize_t>(frame.size()));
}

void say(Namespace& client, const std::string& text) {
  bool sent = false;
  client.within([&] {
    const os::ScopedFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(7);
    ::inet_pton(AF_INET, kGuestAddress, &to.sin_addr);
    sent = ::sendto(socket.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&to),
                    sizeof to) == static_cast<ssize_t>(text.size());
  });
  REQUIRE(sent);
}

std::string_view text_of(std::span<const std::byte> frame) {
  if (frame.size() < kPayloadAt) return {};
  const auto* udp = reinterpret_cast<const unsigned char*>(frame.data()) + kUdpAt;
  return {reinterpret_cast<const char*>(udp) + 8, std::size_t(udp[4] << 8 | udp[5]) - 8};
}

// Over the addresses, the protocol, the length, and the datagram: right if it comes to zero.
unsigned checksum_of(std::span<const std::byte> frame) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(frame.data());
  const unsigned length = unsigned(bytes[kUdpAt + 4] << 8 | bytes[kUdpAt + 5]);
  unsigned sum = IPPROTO_UDP + length;
  for (std::size_t i = 26; i < kUdpAt + length; ++i)
    sum += unsigned(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

// Until `wanted` was heard; what was heard before it goes to `before`.
std::vector<std::byte> hear(int socket, std::string_view wanted, std::vector<std::string>& before) {
  std::vector<std::byte> room(65536);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (std::chrono::steady_clock::now() < deadline) {
    pollfd one{socket, POLLIN, 0};
    ::poll(&one, 1, 100);
    const auto frame = output::receive_frame(socket, room);
    if (!frame.empty() && text_of(frame) == wanted) return {frame.begin(), frame.end()};
    if (!frame.empty()) before.emplace_back(text_of(frame));
  }
  return {};
}

bool tap_hears(int tap, std::string_view wanted) {
  std::vector<std::byte> room(65536);
  pollfd one{tap, POLLIN, 0};
  while (::poll(&one, 1, 0) > 0) {
    const auto got = ::read(tap, room.data(), room.size());
    if (got > 0 && text_of({room.data(), static_cast<std::size_t>(got)}) == wanted) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("once the primary's host is gone, its backup's hears what is for the guest") {
  auto lab = make_lab();
  const auto primary = open_tap(*lab, Side::a), standby = open_tap(*lab, Side::b);
  REQUIRE(lab->client().run({"busybox", "arp", "-s", kGuestAddress, kGuestText}).ok());
  std::vector<os::ScopedFd> sockets;
  lab->host(Side::b).within([&] {
    if (auto beside = output::listen_beside(kTap, {&kGuest, 1})) sockets = std::move(*beside);
  });
  REQUIRE(sockets.size() == 1);  // The cable to the switch.
  std::vector<std::string> before;
  const auto arrives = [&](const char* text, auto&& each_time) {
    for (int i = 0; i < kPatienceMs / 100; ++i) {
      each_time();
      pollfd one{primary.get(), POLLIN, 0};
      ::poll(&one, 1, 100);
      if (tap_hears(primary.get(), text)) return true;
    }
    return false;
  };
  // A bridge forwards nothing until it has noticed that a port's link is up.
  REQUIRE(arrives("where are you", [&] {
    announce(primary.get());
    say(lab->client(), "where are you");
  }));
  say(lab->client(), "here");
  REQUIRE(arrives("here", [] {}));
  std::vector<std::byte> room(65536);
  while (!output::receive_frame(sockets[0].get(), room).empty()) {  // From before it announced.
  }
  // The switch sends this to the one host whose port it learned.
  say(lab->client(), "while it lives");
  REQUIRE(arrives("while it lives", [] {}));

  REQUIRE(lab->cut(Side::a).ok());
  say(lab->client(), "to a dead host");
  const auto frame = hear(sockets[0].get(), "to a dead host", before);
  REQUIRE_FALSE(frame.empty());
  CHECK(before.empty());
  CHECK(checksum_of(frame) == 0);
  // The reason for all of this: the bridge knows only that the guest is where this came from.
  CHECK_FALSE(tap_hears(standby.get(), "to a dead host"));
}

TEST_CASE("without a bridge, or without an address, there is nothing to listen at") {
  auto lab = make_lab();
  const auto tap = open_tap(*lab, Side::a);
  std::size_t without_bridge = 1, without_address = 1;
  lab->host(Side::a).within([&] {
    if (auto none = output::listen_beside("lo", {&kGuest, 1})) without_bridge = none->size();
    if (auto none = output::listen_beside(kTap, {})) without_address = none->size();
  });
  CHECK(without_bridge == 0);
  CHECK(without_address == 0);
}
