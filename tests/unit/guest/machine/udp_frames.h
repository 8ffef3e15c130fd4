// SPDX-License-Identifier: LGPL-2.1-or-later
// Requests to the key-value guest, as Ethernet frames, and its answers. Test support.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace libft::test {

inline std::vector<std::byte> kv_request(std::string_view text) {
  std::vector<std::byte> frame(42 + text.size());
  const auto put = [&](std::size_t at, std::initializer_list<int> values) {
    for (const int value : values) frame[at++] = static_cast<std::byte>(value);
  };
  const auto big = [](std::size_t n) { return std::pair{int(n >> 8), int(n & 255)}; };
  const auto [total_high, total_low] = big(28 + text.size());
  const auto [udp_high, udp_low] = big(8 + text.size());
  put(0, {0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 8, 0});
  put(14, {0x45, 0, total_high, total_low, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2});
  put(34, {0x30, 0x39, 7777 >> 8, 7777 & 255, udp_high, udp_low, 0, 0});
  for (std::size_t i = 0; i < text.size(); ++i) frame[42 + i] = static_cast<std::byte>(text[i]);
  return frame;
}

inline std::string kv_answer(std::span<const std::byte> frame) {
  if (frame.size() < 42) return "(no answer)";
  const auto* text = reinterpret_cast<const char*>(frame.data());
  return {text + 42, frame.size() - 42};
}

}  // namespace libft::test
