// SPDX-License-Identifier: LGPL-2.1-or-later
// What the rewriter makes of a promoted follower's connections.
#include "strategy/compare/rewriter.h"

#include <doctest/doctest.h>

#include "strategy/compare/inet_checksum.h"
#include "support/ip_frames.h"

using namespace libft::compare;
using namespace libft::test;

namespace {

constexpr std::uint32_t kPrimary = 5000, kFollower = 0xffffff00;  // Their first numbers.
constexpr std::uint32_t kClient = 900;

TcpFields from_guest(std::uint32_t sequence, std::uint32_t acknowledged, unsigned flags = kAck) {
  return {.sequence = sequence, .acknowledged = acknowledged, .flags = flags};
}
TcpFields from_client(std::uint32_t sequence, std::uint32_t acknowledged, unsigned flags = kAck) {
  return {.ends = {.source = 2, .destination = 1},
          .source_port = 4000,
          .destination_port = 80,
          .sequence = sequence,
          .acknowledged = acknowledged,
          .flags = flags};
}

struct Wire {
  Rewriter rewriter{RewriterOptions{}};
  explicit Wire(const RewriterOptions& options = {}) : rewriter(options) {}

  TcpFields out(TcpFields tcp, IpVersion version = IpVersion::v4) {
    tcp.ends.version = version;
    auto frame = tcp_frame(tcp);
    rewriter.to_world(0, frame);
    const auto fields = tcp_fields(frame);
    REQUIRE(fields);  // The checksum is right.
    return *fields;
  }
  TcpFields in(TcpFields tcp, IpVersion version = IpVersion::v4) {
    tcp.ends.version = version;
    auto frame = tcp_frame(tcp);
    rewriter.to_guest(0, frame);
    const auto fields = tcp_fields(frame);
    REQUIRE(fields);
    return *fields;
  }
  // A client has called, and knows the primary's answer.
  void connect(int padding = 2) {
    auto answer = from_guest(kFollower, kClient + 1, kSyn | kAck);
    answer.options = timestamps_option(100, 7, padding);
    CHECK(out(answer).sequence == kFollower);
    auto ack = from_client(kClient + 1, kPrimary + 1);
    ack.options = timestamps_option(8, 100100, padding);
    const auto got = in(ack);
    CHECK(got.acknowledged == kFollower + 1);
    CHECK(get_be(got.options, std::size_t(padding) + 6, 4) == 100);
  }
};

}  // namespace

TEST_CASE("checksums are updated as if they were made anew") {
  std::uint32_t seed = 1;
  const auto random = [&] { return seed = seed * 1664525 + 1013904223; };
  for (int n = 0; n < 20000; ++n) {
    FrameBytes header;
    for (int i = 0; i < 8; ++i) put_be(header, random() >> (random() % 2 ? 0 : 28), 4);
    const std::size_t checksum_at = 16, at = 18 + random() % 11;
    store_be16(header.data() + checksum_at, 0);
    const auto sum_of = [&] { return std::uint16_t(~inet_sum(header) & 0xffff); };
    const auto before = sum_of();
    store_be16(header.data() + checksum_at, before);
    replace_be32(header.data(), at, n % 7 == 0 ? 0 : random(), checksum_at);
    CHECK(inet_sum(header) == 0xffff);
  }
}

TEST_CASE("a connection that the guest was called on goes on with the primary's numbers") {
  for (const int padding : {0, 1, 2, 3}) {  // The option may lie anywhere.
    Wire wire;
    wire.connect(padding);
    auto said = from_guest(kFollower + 1, kClient + 1);
    said.options = timestamps_option(150, 8, padding);
    said.payload = bytes_of_text("hello");
    const auto seen = wire.out(said);
    CHECK(seen.sequence == kPrimary + 1);
    CHECK(seen.acknowledged == kClient + 1);
    CHECK(get_be(seen.options, std::size_t(padding) + 2, 4) == 100150);
    CHECK(get_be(seen.options, std::size_t(padding) + 6, 4) == 8);
    CHECK(seen.payload == said.payload);
  }
}

TEST_CASE("so does one that the guest opened") {
  for (const auto version : {IpVersion::v4, IpVersion::v6}) {
    Wire wire;
    CHECK(wire.out(from_guest(kFollower, 0, kSyn), version).sequence == kFollower);
    // A client's latecomer answers no SYN.
    CHECK(wire.in(from_client(kClient, 77), version).acknowledged == 77);
    CHECK(wire.in(from_client(kClient, kPrimary + 1, kSyn | kAck), version).acknowledged ==
          kFollower + 1);
    CHECK(wire.out(from_guest(kFollower + 1, kClient + 1), version).sequence == kPrimary + 1);
  }
}

TEST_CASE("a SYN that is repeated opens nothing anew") {
  Wire wire;
  wire.connect();
  CHECK(wire.out(from_guest(kFollower, kClient + 1, kSyn | kAck)).sequence == kPrimary);
  CHECK(wire.out(from_guest(kFollower + 1, kClient + 1)).sequence == kPrimary + 1);
}

TEST_CASE("a refusal is the guest's own") {
  Wire wire;
  wire.out(from_guest(kFollower, 0, kSyn));
  CHECK(wire.in(from_client(0, kPrimary + 1, kRst | kAck)).acknowledged == kFollower + 1);
}

TEST_CASE("selective acknowledgements are mapped, at any offset") {
  for (const int padding : {0, 1, 2, 3}) {
    Wire wire;
    wire.connect();
    auto ack = from_client(kClient + 1, kPrimary + 11);
    ack.options = FrameBytes(std::size_t(padding), std::byte{1});
    put_be(ack.options, 0x0512, 2);
    for (const std::uint32_t edge : {21, 31, 41, 51}) put_be(ack.options, kPrimary + edge, 4);
    const auto got = wire.in(ack);
    CHECK(got.acknowledged == kFollower + 11);
    std::size_t at = std::size_t(padding) + 2;
    for (const std::uint32_t edge : {21, 31, 41, 51}) {
      CHECK(get_be(got.options, at, 4) == kFollower + edge);
      at += 4;
    }
  }
}

TEST_CASE("time does not go back for the client, nor ahead for the guest") {
  Wire wire;
  wire.connect();
  auto ack = from_client(kClient + 1, kPrimary + 1);
  ack.options = timestamps_option(9, 100900);  // The primary's clock was ahead.
  CHECK(get_be(wire.in(ack).options, 8, 4) == 100);
  auto said = from_guest(kFollower + 1, kClient + 1);
  said.options = timestamps_option(200, 9);
  CHECK(get_be(wire.out(said).options, 4, 4) == 100900);
  said.options = timestamps_option(210, 9);
  CHECK(get_be(wire.out(said).options, 4, 4) == 100910);
}

TEST_CASE("what the world talks to itself, and what is older, is left alone") {
  Wire wire;
  wire.out(from_guest(kFollower, kClient + 1, kSyn | kAck));
  CHECK(wire.rewriter.connections() == 1);
  CHECK(wire.rewriter.rewrites());  // Whom the world will answer is not known yet.
  CHECK(wire.in(from_client(kClient + 1, kFollower + 1)).acknowledged == kFollower + 1);
  CHECK_FALSE(wire.rewriter.rewrites());
  // Its SYN, said again before that answer and held until now.
  wire.out(from_guest(kFollower, kClient + 1, kSyn | kAck));
  CHECK(wire.out(from_guest(kFollower + 1, kClient + 1)).sequence == kFollower + 1);
  CHECK(wire.in(from_client(kClient + 1, kFollower + 900)).acknowledged == kFollower + 900);
  CHECK(wire.out(from_guest(123, 456)).sequence == 123);
  CHECK(wire.in(from_client(456, 123)).acknowledged == 123);
}

TEST_CASE("an old connection's latecomer teaches nothing") {
  Wire wire;
  wire.out(from_guest(kFollower, kClient + 1, kSyn | kAck));
  CHECK(wire.in(from_client(kClient - 1000, 4711)).acknowledged == 4711);
  CHECK(wire.in(from_client(kClient + 1, kPrimary + 1)).acknowledged == kFollower + 1);
}

TEST_CASE("mappings go with the guest's state") {
  Wire wire;
  wire.connect();
  const auto mappings = wire.rewriter.mappings();
  REQUIRE(mappings.size() == 1);
  Wire next;
  next.rewriter.rebase(mappings);
  CHECK(next.out(from_guest(kFollower + 9, kClient + 1)).sequence == kPrimary + 9);
  CHECK(next.in(from_client(kClient + 1, kPrimary + 9)).acknowledged == kFollower + 9);
  CHECK(next.rewriter.rewrites());
  next.rewriter.rebase({});
  CHECK_FALSE(next.rewriter.rewrites());
  CHECK(next.out(from_guest(kFollower + 9, kClient + 1)).sequence == kFollower + 9);
}

TEST_CASE("the table is bounded; who is connected stays") {
  Wire wire({.connections_max = 8});
  wire.connect();
  for (std::uint16_t port = 1; port < 100; ++port) {  // Calls whose callers never answer.
    auto answer = from_guest(port, kClient + 1, kSyn | kAck);
    answer.destination_port = port;
    wire.out(answer);
    CHECK(wire.rewriter.connections() <= 8);
  }
  CHECK(wire.out(from_guest(kFollower + 1, kClient + 1)).sequence == kPrimary + 1);

  // Closed by both, it makes room.
  wire.out(from_guest(kFollower + 1, kClient + 1, kFin | kAck));
  wire.in(from_client(kClient + 1, kPrimary + 2, kFin | kAck));
  CHECK(wire.out(from_guest(kFollower + 2, kClient + 2)).sequence == kPrimary + 2);
  for (std::uint16_t port = 100; port < 108; ++port) {
    auto answer = from_guest(port, kClient + 1, kSyn | kAck);
    answer.destination_port = port;
    wire.out(answer);
  }
  CHECK(wire.out(from_guest(kFollower + 2, kClient + 2)).sequence == kFollower + 2);
}
