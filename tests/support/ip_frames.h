// SPDX-License-Identifier: LGPL-2.1-or-later
// Ethernet frames with IPv4 or IPv6 in them, made from what matters to a test, with right
// checksums; and the check of those. Test support: written without the code under test.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace libft::test {

using FrameBytes = std::vector<std::byte>;

inline void put_be(FrameBytes& bytes, std::uint64_t value, int count) {
  for (int n = count - 1; n >= 0; --n) bytes.push_back(std::byte(value >> (8 * n) & 0xff));
}
inline std::uint32_t get_be(std::span<const std::byte> bytes, std::size_t at, int count) {
  std::uint32_t value = 0;
  for (int n = 0; n < count; ++n) value = value << 8 | std::uint32_t(bytes[at + std::size_t(n)]);
  return value;
}

// The sum of RFC 1071, not yet complemented.
inline std::uint32_t inet_sum(std::span<const std::byte> bytes, std::uint32_t sum = 0) {
  for (std::size_t n = 0; n < bytes.size(); ++n)
    sum += std::uint32_t(bytes[n]) << (n % 2 == 0 ? 8 : 0);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

enum class IpVersion { v4, v6 };

struct IpEnds {
  IpVersion version = IpVersion::v4;
  std::uint8_t source = 1, destination = 2;  // The last byte of an address.
};

inline std::size_t ip_header_bytes(IpVersion version) { return version == IpVersion::v4 ? 20 : 40; }

// What TCP and UDP sum besides themselves.
inline std::uint32_t pseudo_sum(std::span<const std::byte> frame, std::uint8_t protocol,
                                std::size_t length) {
  const bool v4 = get_be(frame, 12, 2) == 0x0800;
  const auto addresses = v4 ? frame.subspan(26, 8) : frame.subspan(22, 32);
  return inet_sum(addresses, std::uint32_t(protocol) + std::uint32_t(length));
}

inline FrameBytes ip_frame(const IpEnds& ends, std::uint8_t protocol,
                           std::span<const std::byte> transport, std::uint16_t id = 0,
                           std::uint16_t fragment = 0x4000) {
  FrameBytes frame;
  put_be(frame, 0x525400123456, 6);
  put_be(frame, 0x020000000001, 6);
  if (ends.version == IpVersion::v4) {
    put_be(frame, 0x0800, 2);
    put_be(frame, 0x4500, 2);
    put_be(frame, 20 + transport.size(), 2);
    put_be(frame, id, 2);
    put_be(frame, fragment, 2);
    put_be(frame, 64u << 8 | protocol, 2);
    put_be(frame, 0, 2);
    put_be(frame, 0x0a000000u + ends.source, 4);
    put_be(frame, 0x0a000000u + ends.destination, 4);
    const auto sum = ~inet_sum(std::span(frame).subspan(14));
    frame[24] = std::byte(sum >> 8 & 0xff);
    frame[25] = std::byte(sum & 0xff);
  } else {
    put_be(frame, 0x86dd, 2);
    put_be(frame, 0x60000000, 4);
    put_be(frame, transport.size(), 2);
    put_be(frame, std::uint32_t(protocol) << 8 | 64, 2);
    for (const auto end : {ends.source, ends.destination}) {
      put_be(frame, 0xfd00000000000000, 8);
      put_be(frame, end, 8);
    }
  }
  frame.insert(frame.end(), transport.begin(), transport.end());
  return frame;
}

constexpr unsigned kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32;

struct TcpFields {
  IpEnds ends{};
  std::uint16_t source_port = 80, destination_port = 4000;
  std::uint32_t sequence = 0, acknowledged = 0;
  unsigned flags = kAck;
  std::uint16_t window = 1000;
  FrameBytes options{};  // Padded to whole words with end-of-list.
  FrameBytes payload{};
  std::uint16_t id = 0;
};

inline FrameBytes bytes_of_text(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

inline FrameBytes timestamps_option(std::uint32_t time, std::uint32_t echo, int padding = 2) {
  FrameBytes option(std::size_t(padding), std::byte{1});
  put_be(option, 0x080a, 2);
  put_be(option, time, 4);
  put_be(option, echo, 4);
  return option;
}

inline FrameBytes tcp_frame(const TcpFields& tcp) {
  FrameBytes options = tcp.options;
  while (options.size() % 4 != 0) options.push_back(std::byte{0});
  FrameBytes segment;
  put_be(segment, tcp.source_port, 2);
  put_be(segment, tcp.destination_port, 2);
  put_be(segment, tcp.sequence, 4);
  put_be(segment, tcp.acknowledged, 4);
  put_be(segment, (5 + options.size() / 4) << 12 | tcp.flags, 2);
  put_be(segment, tcp.window, 2);
  put_be(segment, 0, 4);
  segment.insert(segment.end(), options.begin(), options.end());
  segment.insert(segment.end(), tcp.payload.begin(), tcp.payload.end());
  FrameBytes frame = ip_frame(tcp.ends, 6, segment, tcp.id);
  const std::size_t at = 14 + ip_header_bytes(tcp.ends.version);
  const auto sum = ~inet_sum(std::span(frame).subspan(at), pseudo_sum(frame, 6, segment.size()));
  frame[at + 16] = std::byte(sum >> 8 & 0xff);
  frame[at + 17] = std::byte(sum & 0xff);
  return frame;
}

// The fields of a frame that tcp_frame() made, or that was rewritten since. Nothing: its checksum
// is wrong.
inline std::optional<TcpFields> tcp_fields(std::span<const std::byte> frame) {
  TcpFields tcp;
  tcp.ends.version = get_be(frame, 12, 2) == 0x0800 ? IpVersion::v4 : IpVersion::v6;
  const std::size_t at = 14 + ip_header_bytes(tcp.ends.version);
  const auto segment = frame.subspan(at);
  if (inet_sum(segment, pseudo_sum(frame, 6, segment.size())) != 0xffff) return std::nullopt;
  const bool v4 = tcp.ends.version == IpVersion::v4;
  tcp.ends.source = std::uint8_t(frame[v4 ? 29 : 37]);
  tcp.ends.destination = std::uint8_t(frame[v4 ? 33 : 53]);
  tcp.source_port = std::uint16_t(get_be(segment, 0, 2));
  tcp.destination_port = std::uint16_t(get_be(segment, 2, 2));
  tcp.sequence = get_be(segment, 4, 4);
  tcp.acknowledged = get_be(segment, 8, 4);
  tcp.flags = get_be(segment, 12, 2) & 0x3f;
  tcp.window = std::uint16_t(get_be(segment, 14, 2));
  const std::size_t header = (get_be(segment, 12, 2) >> 12) * 4;
  tcp.options.assign(segment.begin() + 20, segment.begin() + std::ptrdiff_t(header));
  tcp.payload.assign(segment.begin() + std::ptrdiff_t(header), segment.end());
  return tcp;
}

inline FrameBytes udp_frame(const IpEnds& ends, std::string_view text, std::uint16_t id = 0,
                            std::uint16_t fragment = 0x4000) {
  FrameBytes datagram;
  put_be(datagram, 53, 2);
  put_be(datagram, 5353, 2);
  put_be(datagram, 8 + text.size(), 2);
  put_be(datagram, 0, 2);
  for (const char c : text) datagram.push_back(std::byte(c));
  return ip_frame(ends, 17, datagram, id, fragment);
}

}  // namespace libft::test
