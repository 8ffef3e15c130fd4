// SPDX-License-Identifier: LGPL-2.1-or-later
// Detectors that exchange heartbeats with the peer, as HEARTBEAT.md has them. The dialling side
// opens its own sockets, to one or two addresses of the peer; on the listening side a HeartbeatHub
// serves the guests of a whole host on one port. A hub over sockets that somebody else connected
// does both.
// Any thread may call; sinks are called from the heartbeat thread, never after stop() returned.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "failover/heartbeat_loop.h"
#include "libft/detector.h"

namespace libft::failover {

class HeartbeatDetector final : public Detector {
 public:
  HeartbeatDetector(std::shared_ptr<HeartbeatLoop> loop, std::shared_ptr<HeartbeatPeer> peer)
      : loop_(std::move(loop)), peer_(std::move(peer)) {}
  ~HeartbeatDetector() override { loop_->forget(peer_); }

  Status start(std::function<void(DetectorEvent)> sink) override;
  void stop() override { loop_->forget(peer_); }
  void progress() override { peer_->progress(); }

  HeartbeatCounters counters() const { return loop_->counters(); }  // A hub's: of all its guests.

 private:
  std::shared_ptr<HeartbeatLoop> loop_;  // A hub's loop lives as long as its last detector.
  std::shared_ptr<HeartbeatPeer> peer_;
};

class HeartbeatHub {
 public:
  // Listens on one or two addresses ("0.0.0.0:7071", "[::]:7071", "unix:/path"; port 0 picks one).
  // `key` is the pre-shared key; empty only where the connection itself needs none.
  static Result<std::unique_ptr<HeartbeatHub>> open(const std::vector<std::string>& addresses,
                                                    std::string_view key);

  // The same on one or two sockets that somebody else opened, one a path.
  static Result<std::unique_ptr<HeartbeatHub>> over(std::vector<os::ScopedFd> sockets,
                                                    std::string_view key);

  // A detector for the peer that dials with this guest and token. It sends once it has heard.
  std::unique_ptr<Detector> expect(const GuestId& guest, std::uint64_t token,
                                   DetectorOptions options);
  // The dialling side, over sockets that are all connected to the peer.
  Result<std::unique_ptr<Detector>> dial(const GuestId& guest, std::uint64_t token,
                                         DetectorOptions options);
  bool connected() const;  // All of its sockets.

  std::size_t addresses() const { return loop_->sockets(); }
  std::string address(std::size_t index = 0) const { return loop_->address(index); }
  std::uint16_t port(std::size_t index = 0) const;  // 0 for a unix socket.
  HeartbeatCounters counters() const { return loop_->counters(); }

 private:
  explicit HeartbeatHub(std::shared_ptr<HeartbeatLoop> loop) : loop_(std::move(loop)) {}
  std::shared_ptr<HeartbeatLoop> loop_;
};

// The dialling side: one path to each of one or two addresses of the same peer. "10.0.0.1:7071"
// goes the way that the kernel picks; "10.0.0.1:7071@10.0.0.2" goes from that address of ours, so
// that two paths are two links.
Result<std::unique_ptr<Detector>> dial_heartbeats(const std::vector<std::string>& peer_addresses,
                                                  const GuestId& guest, std::uint64_t token,
                                                  std::string_view key, DetectorOptions options);

}  // namespace libft::failover
