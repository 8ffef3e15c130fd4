// SPDX-License-Identifier: LGPL-2.1-or-later
// The Rewriter stands between a follower and the world, which talks to the primary. A connection
// that was opened since the checkpoint has other sequence numbers and timestamps in each of the
// two; the world knows the primary's. What goes in to the follower is rewritten from them, from the
// beginning; what comes out after a promotion, to them: so the client's connection goes on.
//
// Nobody tells it the primary's numbers: the first acknowledgement that answers the guest's SYN
// names them. Connections older than the checkpoint are the same in both, and are left alone.
//
// Only segments are rewritten that read_tcp() can read whole; checksums are updated, never made
// anew. Pure; one thread. Bytes may be anything.
#pragma once

#include <list>
#include <optional>
#include <unordered_map>

#include "strategy/compare/tcp_segment.h"

namespace libft::compare {

// What the world knows, less what the guest knows.
struct Mapping {
  FlowKey flow;
  std::uint32_t first = 0;  // Of the guest's SYN, as the guest knows it.
  std::uint32_t sequence = 0;
  std::uint32_t timestamp = 0;
};

struct RewriterOptions {
  // Beyond it, those that are closed or were never answered make room; else a new one is left
  // alone: a follower then soon says something else than the primary, and is loaded again.
  std::size_t connections_max = 65536;
};

class Rewriter {
 public:
  explicit Rewriter(const RewriterOptions& options) : options_(options) {}

  void to_guest(unsigned nic, std::span<std::byte> frame);
  // Each frame that the guest sends, also while it follows. The comparator wants it as it was
  // before.
  void to_world(unsigned nic, std::span<std::byte> frame);

  // What the state of the guest needs elsewhere, and what it needs when it was loaded here. A
  // primary that was a follower has some; they belong to its checkpoints.
  std::vector<Mapping> mappings() const;
  void rebase(std::span<const Mapping> mappings);

  std::size_t connections() const { return connections_.size(); }
  // Of some connection the world knows other numbers than the guest, or may get to know.
  bool rewrites() const;

 private:
  struct Opening {
    std::uint32_t first = 0;               // The guest's SYN.
    std::optional<std::uint32_t> expects;  // The client's next byte, if the guest was called.
    std::optional<std::uint32_t> time;     // Of that SYN.
  };
  struct Connection {
    std::optional<Opening> opening;  // Nothing: it is mapped.
    std::uint32_t first = 0;
    std::uint32_t sequence = 0, timestamp = 0;
    std::optional<std::uint32_t> said,
        echoed;  // The newest time, as the guest and the world know it.
    bool near_end = false, far_end = false;
    std::optional<std::list<FlowKey>::iterator> spare;
  };
  struct Located;

  Connection* find(const FlowKey& flow);
  void open(const FlowKey& flow, const TcpSegment& syn);
  bool learn(Connection& connection, const TcpSegment& segment);
  void note_end(const FlowKey& flow, Connection& connection);
  void make_spare(const FlowKey& flow, Connection& connection);
  void erase(const FlowKey& flow);

  RewriterOptions options_;
  std::unordered_map<FlowKey, Connection, FlowKeyHash> connections_;
  std::list<FlowKey> spare_;  // Closed, or never answered; those that go first in front.
};

}  // namespace libft::compare
