// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/rewriter.h"

#include <algorithm>

#include "strategy/compare/inet_checksum.h"

namespace libft::compare {
namespace {

constexpr std::size_t kSequenceAt = 4, kAcknowledgedAt = 8, kEchoAt = 4;

// A field of a segment's header, in the frame.
class Field {
 public:
  Field(std::byte* header, std::size_t at) : header_(header), at_(at) {}
  std::uint32_t value() const { return load_be32(header_ + at_); }
  void set(std::uint32_t value) { replace_be32(header_, at_, value, kTcpChecksumAt); }

 private:
  std::byte* header_;
  std::size_t at_;
};

std::optional<std::uint32_t> time_of(const TcpSegment& segment, std::size_t at) {
  const BytesView times = timestamps_of(segment);
  if (times.empty()) return std::nullopt;
  return load_be32(times.data() + at);
}

// Blocks say what the client has out of order: pairs of sequence numbers.
void map_sack(const TcpSegment& segment, std::byte* header, std::uint32_t delta) {
  each_option(segment.options, [&](TcpOption kind, BytesView value) {
    if (kind != TcpOption::sack) return;
    const auto at = std::size_t(value.data() - header);
    for (std::size_t n = 0; n + 4 <= value.size(); n += 4) {
      Field edge(header, at + n);
      edge.set(edge.value() - delta);
    }
  });
}

}  // namespace

// A segment, and where it lies in the frame.
struct Rewriter::Located {
  FlowKey flow;
  std::byte* header = nullptr;
  std::optional<TcpSegment> segment;

  Located(unsigned nic, std::span<std::byte> frame, Direction direction) {
    const Packet packet = read_packet(nic, frame, direction);
    flow = packet.flow;
    segment = read_tcp(packet, frame);
    if (segment) header = frame.data() + packet.transport_at;
  }
  std::optional<Field> time(std::size_t at) const {
    const BytesView times = timestamps_of(*segment);
    if (times.empty()) return std::nullopt;
    return Field(header, std::size_t(times.data() - header) + at);
  }
};

void Rewriter::to_world(unsigned nic, std::span<std::byte> frame) {
  const Located at(nic, frame, Direction::from_guest);
  if (!at.segment) return;
  const TcpSegment& segment = *at.segment;
  if (segment.syn) open(at.flow, segment);
  Connection* connection = find(at.flow);
  if (connection == nullptr) return;
  if (const auto said = time_of(segment, 0)) advance(connection->said, *said);
  connection->near_end |= segment.fin || segment.rst;
  connection->far_end |= segment.rst;
  if (!connection->opening) {
    Field(at.header, kSequenceAt).set(segment.sequence + connection->sequence);
    if (auto time = at.time(0)) {
      // The client has seen the primary's clock there, and takes nothing older (RFC 7323, PAWS).
      if (connection->echoed &&
          ahead(time->value() + connection->timestamp, *connection->echoed) < 0)
        connection->timestamp = *connection->echoed - time->value();
      time->set(time->value() + connection->timestamp);
    }
  }
  note_end(at.flow, *connection);
}

void Rewriter::to_guest(unsigned nic, std::span<std::byte> frame) {
  const Located at(nic, frame, Direction::to_guest);
  if (!at.segment) return;
  const TcpSegment& segment = *at.segment;
  Connection* connection = find(at.flow);
  if (connection == nullptr) return;
  if (connection->opening && !learn(*connection, segment)) return;
  if (connection->sequence == 0) {
    // The world talks to this guest itself. A repeated SYN that leaves late must find it known.
    connection->timestamp = 0;
    return make_spare(at.flow, *connection);
  }
  connection->far_end |= segment.fin || segment.rst;
  connection->near_end |= segment.rst;
  if (segment.acknowledged) {
    Field(at.header, kAcknowledgedAt).set(*segment.acknowledged - connection->sequence);
    map_sack(segment, at.header, connection->sequence);
    if (auto echo = at.time(kEchoAt)) {
      advance(connection->echoed, echo->value());
      // Of a time that the guest has not had yet it would think that it answers nothing of its own.
      std::uint32_t mine = echo->value() - connection->timestamp;
      if (connection->said && ahead(mine, *connection->said) > 0) mine = *connection->said;
      echo->set(mine);
    }
  }
  note_end(at.flow, *connection);
}

Rewriter::Connection* Rewriter::find(const FlowKey& flow) {
  const auto found = connections_.find(flow);
  return found == connections_.end() ? nullptr : &found->second;
}

// A SYN of the guest's, unless it only repeats the one that is known.
void Rewriter::open(const FlowKey& flow, const TcpSegment& syn) {
  Connection* known = find(flow);
  if (known != nullptr && known->first == syn.sequence) return;
  erase(flow);
  if (connections_.size() >= options_.connections_max) {
    if (spare_.empty()) return;
    const FlowKey oldest = spare_.front();
    erase(oldest);
  }
  Connection& connection = connections_[flow];
  connection.first = syn.sequence;
  connection.opening = {
      .first = syn.sequence, .expects = syn.acknowledged, .time = time_of(syn, 0)};
  make_spare(flow, connection);
}

// From the first answer to the guest's SYN, which acknowledges it and nothing more: so what it
// acknowledges is one more than the primary's first number.
bool Rewriter::learn(Connection& connection, const TcpSegment& segment) {
  const Opening& opening = *connection.opening;
  if (!segment.acknowledged) return false;
  if (opening.expects) {
    // An older connection's latecomers are told apart by where the client counts.
    if (segment.syn || segment.rst || ahead(segment.sequence, *opening.expects) < 0) return false;
  } else if (!segment.syn && !segment.rst) {
    return false;
  }
  connection.sequence = *segment.acknowledged - 1 - opening.first;
  const auto echo = time_of(segment, kEchoAt);
  if (echo && opening.time) connection.timestamp = *echo - *opening.time;
  connection.opening.reset();
  spare_.erase(*connection.spare);
  connection.spare.reset();
  return true;
}

void Rewriter::note_end(const FlowKey& flow, Connection& connection) {
  if (connection.near_end && connection.far_end) make_spare(flow, connection);
}

void Rewriter::make_spare(const FlowKey& flow, Connection& connection) {
  if (!connection.spare) connection.spare = spare_.insert(spare_.end(), flow);
}

void Rewriter::erase(const FlowKey& flow) {
  const auto found = connections_.find(flow);
  if (found == connections_.end()) return;
  if (found->second.spare) spare_.erase(*found->second.spare);
  connections_.erase(found);
}

bool Rewriter::rewrites() const {
  return std::ranges::any_of(connections_, [](const auto& entry) {
    // Of one that was closed, too: what closed it may not have arrived, and is said again.
    const Connection& connection = entry.second;
    return connection.opening || connection.sequence != 0;
  });
}

std::vector<Mapping> Rewriter::mappings() const {
  std::vector<Mapping> all;
  for (const auto& [flow, connection] : connections_)
    if (!connection.opening)
      all.push_back({flow, connection.first, connection.sequence, connection.timestamp});
  return all;
}

void Rewriter::rebase(std::span<const Mapping> mappings) {
  connections_.clear();
  spare_.clear();
  for (const Mapping& mapping :
       mappings.first(std::min(mappings.size(), options_.connections_max))) {
    Connection& connection = connections_[mapping.flow];
    connection.first = mapping.first;
    connection.sequence = mapping.sequence;
    connection.timestamp = mapping.timestamp;
  }
}

}  // namespace libft::compare
