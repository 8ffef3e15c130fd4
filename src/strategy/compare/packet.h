// SPDX-License-Identifier: LGPL-2.1-or-later
// What the comparison understands of an Ethernet frame: which flow it belongs to, and whether that
// is compared by its stream or packet by packet. Everything else is `other`: malformed frames,
// fragments, IP options and extension headers, VLANs, other protocols. Pure; safe on any bytes.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace libft::compare {

using BytesView = std::span<const std::byte>;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kEthernetBytes = 14;

enum class Direction { from_guest, to_guest };
enum class PacketKind {
  other,   // Nothing can be said of it.
  tcp,     // A segment; whether it fits is for read_tcp() to say.
  packet,  // UDP, ICMP, ARP: compared whole.
};

// Near is the guest. IPv4 addresses and ARP have zeros in what they do not use.
struct FlowKey {
  unsigned nic = 0;
  std::uint16_t ether_type = 0;
  std::uint8_t protocol = 0;
  std::uint16_t near_port = 0, far_port = 0;
  std::array<std::uint8_t, 16> near{}, far{};
  auto operator<=>(const FlowKey&) const = default;
};

struct FlowKeyHash {
  std::size_t operator()(const FlowKey& key) const;
};

struct Packet {
  PacketKind kind = PacketKind::other;
  FlowKey flow;
  std::size_t transport_at = 0;  // TCP and UDP: where in the frame their header begins...
  std::size_t end = 0;           // ...and where the packet ends. What follows is padding, and zero.
};

Packet read_packet(unsigned nic, BytesView frame, Direction direction);

// The frame without what may differ between two hosts that say the same: IPv4's identification, the
// header checksum that follows from it, and padding. REQUIRES: packet was read from it, a `packet`.
Bytes comparable(const Packet& packet, BytesView frame);

}  // namespace libft::compare
