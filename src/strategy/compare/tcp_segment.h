// SPDX-License-Identifier: LGPL-2.1-or-later
// A TCP segment, and which of its options the comparison understands. Views into the frame.
// Pure; safe on any bytes.
#pragma once

#include <optional>

#include "strategy/compare/packet.h"

namespace libft::compare {

constexpr std::size_t kTcpBytes = 20;
constexpr std::size_t kTcpChecksumAt = 16;  // From the beginning of the header.

enum class TcpOption : std::uint8_t {
  end = 0,
  padding = 1,
  segment_size = 2,
  window_scale = 3,
  sack_permitted = 4,
  sack = 5,
  timestamps = 8,
};

struct TcpSegment {
  std::uint32_t sequence = 0;
  std::optional<std::uint32_t> acknowledged;  // If the flag says that it means something.
  bool syn = false, fin = false, rst = false, urgent = false;
  BytesView options;
  BytesView payload;

  // What the sequence number counts: the payload, and one each for SYN and FIN.
  std::uint32_t length() const { return std::uint32_t(payload.size()) + syn + fin; }
  bool only_acknowledges() const { return length() == 0 && !rst; }
};

// Nothing: not a whole header.
std::optional<TcpSegment> read_tcp(const Packet& packet, BytesView frame);

// Calls visit(kind, value) for each option but padding, in order. False: they are malformed.
template <class Visit>
bool each_option(BytesView options, Visit visit) {
  while (!options.empty() && options[0] != std::byte(TcpOption::end)) {
    if (options[0] == std::byte(TcpOption::padding)) {
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2) return false;
    const auto length = std::size_t(options[1]);
    if (length < 2 || length > options.size()) return false;
    visit(TcpOption(options[0]), options.subspan(2, length - 2));
    options = options.subspan(length);
  }
  return true;
}

// Where in the options the timestamps' eight bytes are.
BytesView timestamps_of(const TcpSegment& segment);

// Whether its meaning is known: no urgent data, and no option that changes what the stream is
// (Multipath TCP, signatures, Fast Open cookies).
bool understood(const TcpSegment& segment);

// What a SYN asks for: its flags and options, without the time.
Bytes terms_of(const TcpSegment& syn);

}  // namespace libft::compare
