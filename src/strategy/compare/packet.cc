// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/packet.h"

#include <algorithm>
#include <cstring>

#include "strategy/compare/network_order.h"

namespace libft::compare {
namespace {

constexpr std::uint16_t kIpv4 = 0x0800, kArp = 0x0806, kIpv6 = 0x86dd;
constexpr std::uint8_t kIcmp = 1, kTcp = 6, kUdp = 17, kIcmp6 = 58;
constexpr std::size_t kIpv4Bytes = 20, kIpv6Bytes = 40, kArpBytes = 28, kUdpBytes = 8;
constexpr std::size_t kFrameBytesMin = 60;  // Shorter ones are padded by some devices.

// Padding is zero and no longer than Ethernet asks for: else it could carry what nobody compares.
bool padding_fits(BytesView frame, std::size_t end) {
  if (end == frame.size()) return true;
  if (end > frame.size() || frame.size() > kFrameBytesMin) return false;
  const auto padding = frame.subspan(end);
  return std::all_of(padding.begin(), padding.end(), [](std::byte b) { return b == std::byte{0}; });
}

void set_addresses(FlowKey& flow, const std::byte* source, const std::byte* destination,
                   std::size_t bytes, Direction direction) {
  if (direction == Direction::to_guest) std::swap(source, destination);
  std::memcpy(flow.near.data(), source, bytes);
  std::memcpy(flow.far.data(), destination, bytes);
}

void set_ports(FlowKey& flow, const std::byte* header, Direction direction) {
  flow.near_port = load_be16(header);
  flow.far_port = load_be16(header + 2);
  if (direction == Direction::to_guest) std::swap(flow.near_port, flow.far_port);
}

PacketKind read_transport(Packet& packet, BytesView frame, std::uint8_t protocol,
                          Direction direction) {
  packet.flow.protocol = protocol;
  const BytesView transport = frame.subspan(packet.transport_at, packet.end - packet.transport_at);
  switch (protocol) {
    case kTcp:
      if (transport.size() < 4) return PacketKind::other;
      set_ports(packet.flow, transport.data(), direction);
      return PacketKind::tcp;
    case kUdp:
      if (transport.size() < kUdpBytes) return PacketKind::other;
      set_ports(packet.flow, transport.data(), direction);
      return PacketKind::packet;
    case kIcmp: return packet.flow.ether_type == kIpv4 ? PacketKind::packet : PacketKind::other;
    case kIcmp6: return packet.flow.ether_type == kIpv6 ? PacketKind::packet : PacketKind::other;
    default: return PacketKind::other;
  }
}

PacketKind read_ipv4(Packet& packet, BytesView frame, Direction direction) {
  const BytesView ip = frame.subspan(kEthernetBytes);
  if (ip.size() < kIpv4Bytes || ip[0] != std::byte{0x45}) return PacketKind::other;
  const std::size_t total = load_be16(ip.data() + 2);
  packet.end = kEthernetBytes + total;
  packet.transport_at = kEthernetBytes + kIpv4Bytes;
  if (total < kIpv4Bytes || !padding_fits(frame, packet.end)) return PacketKind::other;
  constexpr std::uint16_t dont_fragment = 0x4000;
  if ((load_be16(ip.data() + 6) & ~dont_fragment) != 0) return PacketKind::other;  // A fragment.
  set_addresses(packet.flow, ip.data() + 12, ip.data() + 16, 4, direction);
  return read_transport(packet, frame, std::uint8_t(ip[9]), direction);
}

PacketKind read_ipv6(Packet& packet, BytesView frame, Direction direction) {
  const BytesView ip = frame.subspan(kEthernetBytes);
  if (ip.size() < kIpv6Bytes || (ip[0] >> 4) != std::byte{6}) return PacketKind::other;
  packet.transport_at = kEthernetBytes + kIpv6Bytes;
  packet.end = packet.transport_at + load_be16(ip.data() + 4);
  if (!padding_fits(frame, packet.end)) return PacketKind::other;
  set_addresses(packet.flow, ip.data() + 8, ip.data() + 24, 16, direction);
  return read_transport(packet, frame, std::uint8_t(ip[6]), direction);
}

PacketKind read_arp(Packet& packet, BytesView frame) {
  packet.transport_at = kEthernetBytes;
  packet.end = kEthernetBytes + kArpBytes;
  return padding_fits(frame, packet.end) ? PacketKind::packet : PacketKind::other;
}

PacketKind read_ethernet(Packet& packet, BytesView frame, Direction direction) {
  if (frame.size() < kEthernetBytes) return PacketKind::other;
  packet.flow.ether_type = load_be16(frame.data() + 12);
  switch (packet.flow.ether_type) {
    case kIpv4: return read_ipv4(packet, frame, direction);
    case kIpv6: return read_ipv6(packet, frame, direction);
    case kArp: return read_arp(packet, frame);
    default: return PacketKind::other;
  }
}

}  // namespace

std::size_t FlowKeyHash::operator()(const FlowKey& key) const {
  // FNV-1a. Nobody outside chooses so many flows that their order would matter: flows are bounded.
  std::uint64_t hash = 0xcbf29ce484222325ull;
  const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3ull; };
  add(key.nic);
  add(key.ether_type);
  add(key.protocol);
  add(key.near_port);
  add(key.far_port);
  for (const auto byte : key.near) add(byte);
  for (const auto byte : key.far) add(byte);
  return hash ^ hash >> 32;
}

Packet read_packet(unsigned nic, BytesView frame, Direction direction) {
  Packet packet;
  packet.flow.nic = nic;
  packet.kind = read_ethernet(packet, frame, direction);
  return packet;
}

Bytes comparable(const Packet& packet, BytesView frame) {
  Bytes bytes(frame.begin(), frame.begin() + std::ptrdiff_t(packet.end));
  if (packet.flow.ether_type == kIpv4) {
    store_be16(bytes.data() + kEthernetBytes + 4, 0);
    store_be16(bytes.data() + kEthernetBytes + 10, 0);
  }
  return bytes;
}

}  // namespace libft::compare
