// SPDX-License-Identifier: LGPL-2.1-or-later
// What every Transport must do. An implementation instantiates it with a function that makes the
// two connected ends. No rule depends on time, except where a thread must be seen to wait.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "libft/transport.h"

namespace libft::test {

struct TransportPair {
  std::unique_ptr<Transport> a, b;
};
using MakeTransportPair = std::function<TransportPair()>;

// The byte at `position` of the stream `stream`: position and stream are both recognisable.
inline std::byte stream_byte(std::uint64_t stream, std::uint64_t position) {
  return static_cast<std::byte>((position * 31 + (position >> 8) * 17 + (position >> 16) + stream));
}

// Sends `total` bytes of the stream in calls of random shape: several pieces, some empty.
inline Status send_stream(Transport& to, std::uint64_t stream, std::uint64_t total,
                          std::size_t piece_max) {
  std::mt19937_64 random(stream);
  std::vector<std::byte> bytes;
  for (std::uint64_t sent = 0; sent < total;) {
    std::vector<std::size_t> sizes(1 + random() % 5);
    for (std::size_t& size : sizes)
      size = random() % 8 == 0 ? 0 : static_cast<std::size_t>(random() % piece_max);
    sizes.back() += 1;
    std::size_t sum = 0;
    for (std::size_t& size : sizes) {
      size = std::min<std::uint64_t>(size, total - sent - sum);
      sum += size;
    }
    bytes.resize(sum);
    for (std::size_t i = 0; i < sum; ++i) bytes[i] = stream_byte(stream, sent + i);
    std::vector<std::span<const std::byte>> pieces;
    std::size_t at = 0;
    for (const std::size_t size : sizes) {
      pieces.push_back(std::span(bytes).subspan(at, size));
      at += size;
    }
    if (Status status = to.send(pieces); !status.ok()) return status;
    sent += sum;
  }
  return {};
}

// Receives `total` bytes into buffers of random size; returns how many were right, in order.
inline std::uint64_t receive_stream(Transport& from, std::uint64_t stream, std::uint64_t total,
                                    std::size_t buffer_max) {
  std::mt19937_64 random(stream + 1);
  std::vector<std::byte> buffer(buffer_max);
  std::uint64_t done = 0;
  while (done < total) {
    const std::size_t room = std::min<std::uint64_t>(1 + random() % buffer_max, total - done);
    auto got = from.receive(std::span(buffer).first(room));
    if (!got || *got == 0 || *got > room) return done;
    for (std::size_t i = 0; i < *got; ++i, ++done)
      if (buffer[i] != stream_byte(stream, done)) return done;
  }
  return done;
}

// --- the rules ------------------------------------------------------------------------------

inline void check_both_directions_at_once(const MakeTransportPair& make, std::uint64_t total,
                                          std::size_t piece_max) {
  TransportPair pair = make();
  Status sent_a, sent_b;
  std::uint64_t right_a = 0, right_b = 0;
  {
    std::jthread sender_a([&] { sent_a = send_stream(*pair.a, 1, total, piece_max); });
    std::jthread sender_b([&] { sent_b = send_stream(*pair.b, 2, total, piece_max); });
    std::jthread receiver_a([&] { right_a = receive_stream(*pair.a, 2, total, piece_max); });
    right_b = receive_stream(*pair.b, 1, total, piece_max);
  }
  CHECK(sent_a.to_string() == "ok");
  CHECK(sent_b.to_string() == "ok");
  CHECK(right_a == total);
  CHECK(right_b == total);
}

inline void check_much_goes_through(const MakeTransportPair& make) {
  TransportPair pair = make();
  constexpr std::uint64_t kTotal = std::uint64_t{64} << 20;
  Status sent;
  std::jthread sender([&] { sent = send_stream(*pair.a, 3, kTotal, 512 * 1024); });
  CHECK(receive_stream(*pair.b, 3, kTotal, 256 * 1024) == kTotal);
  sender.join();
  CHECK(sent.to_string() == "ok");
}

inline void check_sending_nothing_is_no_end(const MakeTransportPair& make) {
  TransportPair pair = make();
  std::jthread sender([&] {
    (void)pair.a->send({});
    const std::span<const std::byte> empty[] = {{}, {}};
    (void)pair.a->send(empty);
    (void)send_stream(*pair.a, 4, 10, 10);
  });
  CHECK(receive_stream(*pair.b, 4, 10, 10) == 10);
}

inline void check_close_ends_a_waiting_receive(const MakeTransportPair& make) {
  TransportPair pair = make();
  // Both have spoken once, so that no handshake is pending.
  std::jthread greeting([&] { (void)send_stream(*pair.a, 5, 1, 1); });
  REQUIRE(receive_stream(*pair.b, 5, 1, 1) == 1);
  greeting.join();
  Status ended;
  std::jthread receiver([&] {
    std::byte byte{};
    auto got = pair.a->receive(std::span(&byte, 1));
    if (!got) ended = got.error();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds{20});  // Likely, not surely, waiting.
  pair.a->close();
  receiver.join();
  CHECK(ended.code() == Code::cancelled);
}

inline void check_close_ends_a_blocked_send(const MakeTransportPair& make) {
  TransportPair pair = make();
  std::jthread greeting([&] { (void)send_stream(*pair.a, 5, 1, 1); });
  REQUIRE(receive_stream(*pair.b, 5, 1, 1) == 1);
  greeting.join();
  std::atomic<std::uint64_t> sends{0};
  Status ended;
  std::jthread sender([&] {
    const std::vector<std::byte> bytes(256 * 1024);
    const std::span<const std::byte> pieces[] = {bytes};
    while (ended.ok()) {
      ended = pair.a->send(pieces);
      ++sends;
    }
  });
  // Nobody receives: the sender stands still once every buffer on the way is full.
  for (std::uint64_t before = ~std::uint64_t{0}; before != sends;) {
    before = sends;
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
  }
  pair.a->close();
  sender.join();
  CHECK(ended.code() == Code::cancelled);
  pair.a->close();  // Idempotent.
}

inline void check_calls_after_close_fail(const MakeTransportPair& make) {
  TransportPair pair = make();
  pair.a->close();
  std::byte byte{};
  const std::span<const std::byte> pieces[] = {std::span(&byte, 1)};
  CHECK(pair.a->send(pieces).code() == Code::cancelled);
  CHECK(pair.a->receive(std::span(&byte, 1)).error().code() == Code::cancelled);
}

// What was sent before the end still arrives; then, and again, the peer is lost.
inline void check_end_of_the_peer(const MakeTransportPair& make, bool in_order) {
  TransportPair pair = make();
  std::jthread leaver([&] {
    (void)send_stream(*pair.a, 6, 5000, 100);
    std::byte byte{};
    if (!in_order)
      pair.a->close();
    else
      (void)pair.a->receive(std::span(&byte, 1));  // Until the other has everything.
    pair.a.reset();
  });
  if (in_order) {
    CHECK(receive_stream(*pair.b, 6, 5000, 300) == 5000);
    (void)send_stream(*pair.b, 7, 1, 1);
  }
  std::vector<std::byte> buffer(1000);
  auto got = pair.b->receive(buffer);
  while (got) got = pair.b->receive(buffer);
  CHECK(got.error().code() == Code::peer_lost);
  CHECK_FALSE(got.error().message().empty());
  CHECK(pair.b->receive(buffer).error().code() == Code::peer_lost);
  leaver.join();
  Status sent;
  const std::span<const std::byte> pieces[] = {buffer};
  // A transport may take some before it notices; that much is bounded.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
  while (sent.ok() && std::chrono::steady_clock::now() < deadline) sent = pair.b->send(pieces);
  CHECK(sent.code() == Code::peer_lost);
}

inline void check_it_says_what_it_is(const MakeTransportPair& make) {
  TransportPair pair = make();
  std::jthread greeting([&] { (void)send_stream(*pair.a, 5, 1, 1); });
  REQUIRE(receive_stream(*pair.b, 5, 1, 1) == 1);
  greeting.join();
  for (Transport* end : {pair.a.get(), pair.b.get()}) {
    CHECK_FALSE(end->description().empty());
    CHECK(end->authenticated());
  }
}

// Call it from a TEST_CASE. Both ends are such that the peer's identity is certain.
inline void transport_suite(const MakeTransportPair& make) {
  SUBCASE("small pieces, both ways at once") { check_both_directions_at_once(make, 200'000, 300); }
  SUBCASE("large pieces, both ways at once") {
    check_both_directions_at_once(make, 8'000'000, 200'000);
  }
  SUBCASE("64 MiB") { check_much_goes_through(make); }
  SUBCASE("sending nothing") { check_sending_nothing_is_no_end(make); }
  SUBCASE("close ends a waiting receive") { check_close_ends_a_waiting_receive(make); }
  SUBCASE("close ends a blocked send") { check_close_ends_a_blocked_send(make); }
  SUBCASE("calls after close") { check_calls_after_close_fail(make); }
  SUBCASE("the peer's orderly end") { check_end_of_the_peer(make, true); }
  SUBCASE("the peer's sudden end") { check_end_of_the_peer(make, false); }
  SUBCASE("what it says about itself") { check_it_says_what_it_is(make); }
}

}  // namespace libft::test
