// SPDX-License-Identifier: LGPL-2.1-or-later
// The Network carries bytes between hosts: connections (ordered streams, as TCP gives them, until
// somebody breaks them) and datagrams (heartbeats). Each direction between two hosts can be blocked
// by itself; bytes then wait, as TCP's would, and arrive when it heals. Faults that TCP's own
// checks would let through in one of 65,536 cases (changed, doubled, swapped pieces) are made on
// purpose.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "libft/types.h"
#include "sim/event_queue.h"
#include "sim/random.h"

namespace libft::sim {

constexpr int kHosts = 3;
using ConnectionId = std::uint64_t;

struct Datagram {
  std::array<std::uint8_t, 16> sender{};  // Incarnation.
  std::uint64_t progress = 0;
};

// What a host hears. Called at the moment of arrival.
class NetworkSink {
 public:
  virtual ~NetworkSink() = default;
  virtual void on_connection(ConnectionId connection, int peer, bool dialed) = 0;
  virtual void on_bytes(ConnectionId connection, std::span<const std::byte> bytes) = 0;
  virtual void on_closed(ConnectionId connection) = 0;
  virtual void on_datagram(int from, const Datagram& datagram) = 0;
};

class Network {
 public:
  Network(EventQueue& queue, Random random) : queue_(queue), random_(random) {}
  void attach(int host, NetworkSink& sink) { sinks_[static_cast<std::size_t>(host)] = &sink; }

  // --- what replicas do ---------------------------------------------------------------------
  ConnectionId dial(int from, int to);  // Ends in on_connection at both, or on_closed at `from`.
  void send(ConnectionId connection, int from, std::vector<std::byte> bytes);
  void close(ConnectionId connection, int end);
  void datagram(int from, int to, const Datagram& datagram);

  // --- what fate does -----------------------------------------------------------------------
  void block(int from, int to) { blocked(from, to) = true; }
  void heal(int from, int to);
  void reset(ConnectionId connection);      // Both ends hear of it, bytes on the way are lost.
  void host_died(int host, bool silently);  // Silently: a dead host sends no resets.
  enum class Damage { none, change, truncate, twice, swap };
  void damage_next(ConnectionId connection, int from, Damage damage);
  void set_delay(Nanos low, Nanos high) { delay_low_ = low, delay_high_ = high; }
  void set_datagram_loss(unsigned permille) { datagram_loss_ = permille; }

  bool is_blocked(int from, int to) const {
    return blocked_[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
  }
  std::vector<ConnectionId> open_connections() const;
  int end_of(ConnectionId connection, int side) const;
  std::size_t bytes_queued(ConnectionId connection, int from) const;
  std::uint64_t damaged() const { return damaged_; }

 private:
  struct Piece {
    Time at;
    std::vector<std::byte> bytes;
    bool end = false;  // The sender closed.
  };
  struct Direction {
    std::deque<Piece> pieces;
    Time last;  // Arrival of the newest piece: streams do not overtake themselves.
    std::size_t bytes = 0;
    bool sender_open = true;
    bool pumping = false;
    Damage damage = Damage::none;
  };
  struct Connection {
    std::array<int, 2> host;        // [0] dialed.
    std::array<Direction, 2> from;  // from[0]: bytes sent by host[0].
    std::array<bool, 2> open{};     // Whether that end still listens.
    bool established = false;
  };

  bool& blocked(int from, int to) {
    return blocked_[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
  }
  NetworkSink& sink(int host) { return *sinks_[static_cast<std::size_t>(host)]; }
  Nanos delay() { return random_.between(delay_low_, delay_high_); }
  static std::size_t side(const Connection& connection, int host) {
    return connection.host[0] == host ? 0 : 1;
  }
  void enqueue(ConnectionId id, Connection& connection, std::size_t from, Piece piece);
  void apply_damage(Direction& direction, Piece& piece, bool& reset_after);
  void establish(ConnectionId id);
  void pump(ConnectionId id, std::size_t from);
  void forget_if_done(ConnectionId id);

  EventQueue& queue_;
  Random random_;
  std::array<NetworkSink*, kHosts> sinks_{};
  std::array<std::array<bool, kHosts>, kHosts> blocked_{};
  std::map<ConnectionId, Connection> connections_;
  ConnectionId next_ = 1;
  Nanos delay_low_ = std::chrono::microseconds{50}, delay_high_ = std::chrono::microseconds{600};
  unsigned datagram_loss_ = 0;
  std::uint64_t damaged_ = 0;
};

}  // namespace libft::sim
