// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames of any kind, and segments that hang together, to a Comparator and a Rewriter, in any order
// with checkpoints. What must hold: a frame is released once at most, and only one that was given;
// what is kept is bounded; a rewritten frame differs in its TCP header only, and its checksum is as
// right or wrong as it was.
#include <cstdlib>
#include <set>

#include "base/bytes.h"
#include "strategy/compare/comparator.h"
#include "strategy/compare/rewriter.h"
#include "support/ip_frames.h"

using namespace libft;
using namespace libft::compare;
using namespace libft::test;

namespace {

constexpr std::size_t kBytesMax = 20000, kFlowsMax = 8;

void require(bool holds) {
  if (!holds) std::abort();
}

// A segment of one of few connections, whose numbers are near each other.
FrameBytes segment(base::ByteReader& input, bool from_guest) {
  const auto shape = input.read<std::uint8_t>();
  const std::uint16_t far_port = 4000 + shape % 3;
  TcpFields tcp;
  tcp.ends.version = shape & 4 ? IpVersion::v6 : IpVersion::v4;
  if (!from_guest) std::swap(tcp.ends.source, tcp.ends.destination);
  tcp.source_port = from_guest ? 80 : far_port;
  tcp.destination_port = from_guest ? far_port : 80;
  tcp.sequence = 0xffffffc0u + input.read<std::uint8_t>();
  tcp.acknowledged = 0xffffffc0u + input.read<std::uint8_t>();
  tcp.flags = input.read<std::uint8_t>();
  const auto options = input.bytes((shape >> 3 & 7) * 4);
  tcp.options.assign(options.begin(), options.end());
  const auto payload = input.bytes(shape >> 6 ? input.read<std::uint8_t>() % 64 : 0);
  tcp.payload.assign(payload.begin(), payload.end());
  return tcp_frame(tcp);
}

FrameBytes frame(base::ByteReader& input, bool from_guest, bool whole) {
  if (whole) return segment(input, from_guest);
  const auto raw = input.bytes(std::min<std::size_t>(input.read<std::uint16_t>(), input.left()));
  return {raw.begin(), raw.end()};
}

struct Harness {
  Comparator comparator{{.bytes_max = kBytesMax, .flows_max = kFlowsMax}};
  Rewriter rewriter{{.connections_max = 4}};
  std::set<FrameNo> held;
  std::uint64_t next = 1;
  Time now{};

  void obey(const Verdict& verdict) {
    for (const FrameNo number : verdict.release) require(held.erase(number) == 1);
    require(comparator.bytes() <= kBytesMax + 1000);
    require(comparator.flows() <= kFlowsMax);
    if (verdict.checkpoint != Reason::none) require(comparator.bytes() == 0);
  }
  void primary(const FrameBytes& bytes) {
    held.insert(FrameNo{next});
    obey(comparator.on_primary(FrameNo{next++}, 0, bytes, now));
  }
  void capture() {
    comparator.captured();
    held.clear();
    obey({});
  }
  void rewrite(FrameBytes bytes, Direction direction) {
    const FrameBytes before = bytes;
    if (direction == Direction::to_guest)
      rewriter.to_guest(0, bytes);
    else
      rewriter.to_world(0, bytes);
    require(rewriter.connections() <= 4);
    if (bytes == before) return;
    const Packet packet = read_packet(0, before, direction);
    const auto was = read_tcp(packet, before);
    require(was.has_value());
    const std::size_t payload_at = packet.end - was->payload.size();
    for (std::size_t at = 0; at < bytes.size(); ++at)
      if (at < packet.transport_at || at >= payload_at) require(bytes[at] == before[at]);
    const auto sum = [&](const FrameBytes& of) {
      return inet_sum(std::span(of).subspan(packet.transport_at, packet.end - packet.transport_at));
    };
    require(sum(bytes) % 0xffff == sum(before) % 0xffff);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  base::ByteReader input(std::as_bytes(std::span(data, size)));
  Harness harness;
  while (input.left() > 0) {
    const auto what = input.read<std::uint8_t>();
    const bool whole = what & 0x80;
    switch (what % 10) {
      case 0:
      case 1: harness.primary(frame(input, true, whole)); break;
      case 2:
      case 3: harness.obey(harness.comparator.on_follower(0, frame(input, true, whole))); break;
      case 4: harness.comparator.on_world(0, frame(input, false, whole)); break;
      case 5:
        harness.now = harness.now + Millis{input.read<std::uint8_t>()};
        harness.obey(harness.comparator.on_time(harness.now));
        break;
      case 6:
        if (what & 0x40) harness.capture();
        harness.obey(harness.comparator.follower_runs(harness.now));
        break;
      case 7: harness.rewrite(frame(input, false, whole), Direction::to_guest); break;
      case 8: harness.rewrite(frame(input, true, whole), Direction::from_guest); break;
      case 9: harness.rewriter.rebase(harness.rewriter.mappings()); break;
    }
  }
  return 0;
}
