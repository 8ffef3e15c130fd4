// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/frame_ring.h"

#include <doctest/doctest.h>

#include <deque>
#include <random>
#include <vector>

using namespace libft;
using namespace libft::output;

namespace {

std::vector<std::byte> frame_of(std::size_t bytes, unsigned seed) {
  std::vector<std::byte> frame(bytes);
  for (std::size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + seed);
  return frame;
}

bool same(const Frame& frame, unsigned nic, const std::vector<std::byte>& bytes) {
  return frame.nic == nic &&
         std::equal(frame.bytes.begin(), frame.bytes.end(), bytes.begin(), bytes.end());
}

}  // namespace

TEST_CASE("a ring gives back what it took, over many wraps, and agrees with a plain queue") {
  std::mt19937 random(1);
  for (const std::size_t capacity : {64u, 200u, 1000u, 4096u}) {
    auto ring = FrameRing::create(capacity);
    REQUIRE(ring);
    std::deque<std::pair<unsigned, std::vector<std::byte>>> model;
    std::size_t pushed = 0, refused = 0;
    for (unsigned step = 0; step < 20'000; ++step) {
      if (random() % 2 == 0) {
        const auto bytes = frame_of(random() % (capacity / 3), step);
        if (ring->push({step, bytes})) {
          model.emplace_back(step, bytes);
          ++pushed;
        } else {
          ++refused;
        }
      } else if (!model.empty()) {
        REQUIRE(same(ring->front(), model.front().first, model.front().second));
        ring->pop();
        model.pop_front();
      }
      REQUIRE(ring->frames() == model.size());
      REQUIRE(ring->empty() == model.empty());
    }
    CHECK(pushed > 1000);
    CHECK(refused > 10);
    ring->clear();
    CHECK(ring->payload_bytes() == 0);
    CHECK(ring->push({0, frame_of(capacity / 4, 0)}));
  }
}

TEST_CASE("room() never promises too much") {
  auto ring = FrameRing::create(10 * kFrameBytesMax);
  REQUIRE(ring);
  const auto largest = frame_of(kFrameBytesMax, 3);
  std::mt19937 random(2);
  for (unsigned round = 0; round < 200; ++round) {
    while (!ring->empty() && random() % 3 != 0) ring->pop();
    static_cast<void>(ring->push({0, frame_of(random() % kFrameBytesMax, round)}));
    const std::size_t room = ring->room();
    for (std::size_t i = 0; i < room; ++i) REQUIRE(ring->push({1, largest}));
  }
  ring->clear();
  CHECK(ring->room() >= 8);
}
