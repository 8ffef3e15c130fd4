// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/compare/mistakes.h"

#include <algorithm>

namespace libft::sim {
namespace {

using namespace libft::test;

constexpr std::size_t kChecksumAt = 14 + 20 + 16;
// As ModelTcp lays its options out.
constexpr std::size_t kTimeAt = 4, kEchoAt = 8, kSackAt = 16;

// Whatever is compared of contents is made equal.
FrameBytes blank(CompareMutant mutant, const Said& said) {
  if (!said.segment)
    return mutant == CompareMutant::datagram_uncompared ? udp_frame({}, "any") : said.frame;
  if (mutant != CompareMutant::payload_uncompared) return said.frame;
  TcpFields segment = *said.segment;
  std::fill(segment.payload.begin(), segment.payload.end(), std::byte{'x'});
  return tcp_frame(segment);
}

void take_back(FrameBytes& options, const FrameBytes& before, std::size_t from, std::size_t to) {
  for (std::size_t at = from; at < std::min(to, options.size()); ++at) options[at] = before[at];
}

void keep_checksum(CompareMutant mutant, const FrameBytes& before, FrameBytes& rewritten) {
  if (mutant == CompareMutant::checksum_kept)
    std::copy_n(before.begin() + kChecksumAt, 2, rewritten.begin() + kChecksumAt);
}

}  // namespace

FrameBytes mistaken_primary(CompareMutant mutant, const Said& said) {
  if (!said.segment) return blank(mutant, said);
  TcpFields segment = *said.segment;
  if (mutant == CompareMutant::end_uncompared) segment.flags &= ~unsigned(kFin);
  if (mutant == CompareMutant::acknowledgement_uncompared)
    segment.acknowledged = said.peer_first + 1;
  if (segment.flags != said.segment->flags || segment.acknowledged != said.segment->acknowledged)
    return tcp_frame(segment);
  return blank(mutant, said);
}

FrameBytes mistaken_follower(CompareMutant mutant, const Said& said) { return blank(mutant, said); }

void mistake_to_world(CompareMutant mutant, const FrameBytes& before, FrameBytes& rewritten) {
  keep_checksum(mutant, before, rewritten);
  const auto own = tcp_fields(before);
  auto segment = tcp_fields(rewritten);
  if (!own || !segment) return;
  if (mutant == CompareMutant::sequence_unmapped)
    segment->sequence = own->sequence;
  else if (mutant == CompareMutant::time_unmapped)
    take_back(segment->options, own->options, kTimeAt, kEchoAt);
  else
    return;
  rewritten = tcp_frame(*segment);
}

void mistake_to_guest(CompareMutant mutant, const FrameBytes& before, FrameBytes& rewritten) {
  keep_checksum(mutant, before, rewritten);
  const auto worlds = tcp_fields(before);
  auto segment = tcp_fields(rewritten);
  if (!worlds || !segment) return;
  if (mutant == CompareMutant::acknowledgement_unmapped)
    segment->acknowledged = worlds->acknowledged;
  else if (mutant == CompareMutant::echo_unmapped)
    take_back(segment->options, worlds->options, kEchoAt, kSackAt - 4);
  else if (mutant == CompareMutant::sack_unmapped)
    take_back(segment->options, worlds->options, kSackAt, segment->options.size());
  else
    return;
  rewritten = tcp_frame(*segment);
}

}  // namespace libft::sim
