// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/tcp_segment.h"

#include "strategy/compare/network_order.h"

namespace libft::compare {
namespace {

constexpr unsigned kFin = 1, kSyn = 2, kRst = 4, kAck = 16, kUrg = 32;

bool fits(TcpOption kind, BytesView value, bool syn) {
  switch (kind) {
    case TcpOption::segment_size: return syn && value.size() == 2;
    case TcpOption::window_scale: return syn && value.size() == 1;
    case TcpOption::sack_permitted: return syn && value.empty();
    case TcpOption::sack: return !syn && value.size() % 8 == 0;
    case TcpOption::timestamps: return value.size() == 8;
    default: return false;
  }
}

}  // namespace

std::optional<TcpSegment> read_tcp(const Packet& packet, BytesView frame) {
  if (packet.kind != PacketKind::tcp) return std::nullopt;
  const BytesView bytes = frame.subspan(packet.transport_at, packet.end - packet.transport_at);
  if (bytes.size() < kTcpBytes) return std::nullopt;
  const std::size_t header = std::size_t(bytes[12] >> 4) * 4;
  if (header < kTcpBytes || header > bytes.size()) return std::nullopt;
  const auto flags = unsigned(bytes[13]);
  TcpSegment segment;
  segment.sequence = load_be32(bytes.data() + 4);
  if (flags & kAck) segment.acknowledged = load_be32(bytes.data() + 8);
  segment.syn = flags & kSyn;
  segment.fin = flags & kFin;
  segment.rst = flags & kRst;
  segment.urgent = flags & kUrg;
  segment.options = bytes.subspan(kTcpBytes, header - kTcpBytes);
  segment.payload = bytes.subspan(header);
  return segment;
}

BytesView timestamps_of(const TcpSegment& segment) {
  BytesView found;
  each_option(segment.options, [&](TcpOption kind, BytesView value) {
    if (kind == TcpOption::timestamps && value.size() == 8) found = value;
  });
  return found;
}

bool understood(const TcpSegment& segment) {
  if (segment.urgent || (segment.syn && (segment.fin || segment.rst))) return false;
  bool known = true;
  const bool whole = each_option(segment.options, [&](TcpOption kind, BytesView value) {
    known = known && fits(kind, value, segment.syn);
  });
  return whole && known;
}

Bytes terms_of(const TcpSegment& syn) {
  Bytes terms{std::byte{syn.acknowledged.has_value()}};
  each_option(syn.options, [&](TcpOption kind, BytesView value) {
    terms.push_back(std::byte(kind));
    if (kind != TcpOption::timestamps) terms.insert(terms.end(), value.begin(), value.end());
  });
  return terms;
}

}  // namespace libft::compare
