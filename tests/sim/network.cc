// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/network.h"

#include <algorithm>

namespace libft::sim {
namespace {
constexpr Nanos kConnectTimeout = Millis{200};
}

ConnectionId Network::dial(int from, int to) {
  const ConnectionId id = next_++;
  connections_[id].host = {from, to};
  connections_[id].open = {true, true};
  if (is_blocked(from, to) || is_blocked(to, from)) {
    queue_.in(kConnectTimeout, [this, id] { reset(id); });
  } else {
    queue_.in(delay() + delay(), [this, id] { establish(id); });
  }
  return id;
}

void Network::establish(ConnectionId id) {
  const auto found = connections_.find(id);
  if (found == connections_.end() || !found->second.open[0]) return;
  if (is_blocked(found->second.host[0], found->second.host[1])) return reset(id);
  found->second.established = true;
  const auto host = found->second.host;
  sink(host[1]).on_connection(id, host[0], false);
  if (connections_.contains(id)) sink(host[0]).on_connection(id, host[1], true);
}

void Network::send(ConnectionId id, int from, std::vector<std::byte> bytes) {
  const auto found = connections_.find(id);
  if (found == connections_.end() || bytes.empty()) return;
  Connection& connection = found->second;
  const std::size_t s = side(connection, from);
  Direction& direction = connection.from[s];
  if (!direction.sender_open) return;
  Piece piece{queue_.now() + delay(), std::move(bytes)};
  bool reset_after = false;
  apply_damage(direction, piece, reset_after);
  enqueue(id, connection, s, std::move(piece));
  if (reset_after) queue_.in(delay() + delay_high_, [this, id] { reset(id); });
}

void Network::apply_damage(Direction& direction, Piece& piece, bool& reset_after) {
  const Damage damage = std::exchange(direction.damage, Damage::none);
  if (damage == Damage::none) return;
  ++damaged_;
  switch (damage) {
    case Damage::change: {
      auto& byte = piece.bytes[random_.below(piece.bytes.size())];
      byte ^= static_cast<std::byte>(1u << random_.below(8));
      break;
    }
    case Damage::truncate:
      piece.bytes.resize(1 + random_.below(piece.bytes.size()));
      direction.sender_open = false;
      reset_after = true;
      break;
    case Damage::twice: {
      const auto copy = piece.bytes;
      piece.bytes.insert(piece.bytes.end(), copy.begin(), copy.end());
      break;
    }
    case Damage::swap:
      if (!direction.pieces.empty() && !direction.pieces.back().end) {
        direction.bytes += piece.bytes.size() - direction.pieces.back().bytes.size();
        std::swap(piece.bytes, direction.pieces.back().bytes);
      }
      break;
    case Damage::none: break;
  }
}

void Network::enqueue(ConnectionId id, Connection& connection, std::size_t from, Piece piece) {
  Direction& direction = connection.from[from];
  direction.last = piece.at = std::max(piece.at, direction.last);
  direction.bytes += piece.bytes.size();
  direction.pieces.push_back(std::move(piece));
  if (direction.pumping) return;
  direction.pumping = true;
  queue_.at(direction.pieces.front().at, [this, id, from] { pump(id, from); });
}

void Network::pump(ConnectionId id, std::size_t from) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  Direction& direction = connection.from[from];
  direction.pumping = false;
  if (direction.pieces.empty()) return;
  const int sender = connection.host[from], receiver = connection.host[1 - from];
  if (is_blocked(sender, receiver)) return;  // heal() goes on.
  Piece piece = std::move(direction.pieces.front());
  direction.pieces.pop_front();
  direction.bytes -= piece.bytes.size();
  if (!direction.pieces.empty()) {
    direction.pumping = true;
    queue_.at(direction.pieces.front().at, [this, id, from] { pump(id, from); });
  }
  if (!connection.open[1 - from]) return;
  if (piece.end) {
    connection.open[1 - from] = false;
    connection.from[1 - from].sender_open = false;
    sink(receiver).on_closed(id);
    forget_if_done(id);
  } else {
    sink(receiver).on_bytes(id, piece.bytes);
  }
}

void Network::close(ConnectionId id, int end) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = found->second;
  const std::size_t s = side(connection, end);
  connection.open[s] = false;
  if (connection.from[s].sender_open) {
    connection.from[s].sender_open = false;
    if (connection.open[1 - s]) enqueue(id, connection, s, Piece{queue_.now() + delay(), {}, true});
  }
  forget_if_done(id);
}

void Network::reset(ConnectionId id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  const auto host = found->second.host;
  const auto open = found->second.open;
  const bool established = found->second.established;
  connections_.erase(found);
  for (std::size_t s = 0; s < 2; ++s) {
    if (!open[s] || (s == 1 && !established)) continue;
    // Each end hears of it when its own packets are answered: not at the same time.
    queue_.in(delay(), [this, id, h = host[s]] { sink(h).on_closed(id); });
  }
}

void Network::host_died(int host, bool silently) {
  for (const ConnectionId id : open_connections()) {
    Connection& connection = connections_.at(id);
    if (connection.host[0] != host && connection.host[1] != host) continue;
    const std::size_t s = side(connection, host);
    if (!silently) {
      close(id, host);
    } else {
      connection.open[s] = connection.from[s].sender_open = false;
      forget_if_done(id);
    }
  }
}

void Network::forget_if_done(ConnectionId id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if (!found->second.open[0] && !found->second.open[1]) connections_.erase(found);
}

void Network::heal(int from, int to) {
  blocked(from, to) = false;
  for (auto& [id, connection] : connections_) {
    for (std::size_t s = 0; s < 2; ++s) {
      Direction& direction = connection.from[s];
      if (connection.host[s] != from || connection.host[1 - s] != to) continue;
      if (direction.pieces.empty() || direction.pumping) continue;
      direction.pumping = true;
      queue_.in(delay(), [this, i = id, s] { pump(i, s); });
    }
  }
}

void Network::datagram(int from, int to, const Datagram& datagram) {
  if (is_blocked(from, to) || random_.chance(datagram_loss_)) return;
  queue_.in(delay(), [this, from, to, datagram] { sink(to).on_datagram(from, datagram); });
}

void Network::damage_next(ConnectionId id, int from, Damage damage) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second.from[side(found->second, from)].damage = damage;
}

std::vector<ConnectionId> Network::open_connections() const {
  std::vector<ConnectionId> ids;
  for (const auto& [id, connection] : connections_) ids.push_back(id);
  return ids;
}

int Network::end_of(ConnectionId id, int s) const {
  const auto found = connections_.find(id);
  return found == connections_.end() ? -1 : found->second.host[static_cast<std::size_t>(s)];
}

std::size_t Network::bytes_queued(ConnectionId id, int from) const {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return 0;
  return found->second.from[side(found->second, from)].bytes;
}

}  // namespace libft::sim
