// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/heartbeat_loop.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>

#include "os/thread.h"

namespace libft::failover {
namespace {

constexpr Time kNever{Nanos::max()};
// A flood of foreign datagrams must not keep the loop from sending.
constexpr int kDatagramsPerTurn = 256;

}  // namespace

Result<std::unique_ptr<HeartbeatLoop>> HeartbeatLoop::open(std::vector<DatagramSocket> sockets,
                                                           std::string_view key) {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  std::unique_ptr<HeartbeatLoop> loop(new HeartbeatLoop(std::move(sockets), key, std::move(wake)));
  loop->thread_ = os::start_thread("ft-heartbeat", [raw = loop.get()] { raw->run(); });
  return loop;
}

HeartbeatLoop::HeartbeatLoop(std::vector<DatagramSocket> sockets, std::string_view key,
                             os::EventFd wake)
    : key_(key), wake_(std::move(wake)), sockets_(std::move(sockets)) {}

HeartbeatLoop::~HeartbeatLoop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.signal();
  thread_.join();
}

void HeartbeatLoop::watch(const std::shared_ptr<HeartbeatPeer>& peer,
                          std::function<void(DetectorEvent)> sink) {
  {
    const std::lock_guard lock(peer->sink_mutex_);
    peer->sink_ = std::move(sink);
  }
  {
    const std::lock_guard lock(mutex_);
    const Time now = clock_.now();
    std::vector<std::string> names;
    for (std::size_t i = 0; i < peer->paths_.size(); ++i) names.push_back(path_name(*peer, i));
    // A backup dials its primary.
    const bool on_backup = peer->self_ == HeartbeatSide::dialler;
    peer->suspicion_.emplace(peer->options_, std::move(names),
                             on_backup ? core::Watched::primary : core::Watched::backup);
    peer->suspicion_->start(now);
    peer->next_send_ = now;
    peers_[{peer->guest_.bytes(), peer->token_}] = peer;  // The newest of a connection counts.
  }
  wake_.signal();
}

void HeartbeatLoop::forget(const std::shared_ptr<HeartbeatPeer>& peer) {
  {
    const std::lock_guard lock(mutex_);
    const auto at = peers_.find({peer->guest_.bytes(), peer->token_});
    if (at != peers_.end() && at->second == peer) peers_.erase(at);
    peer->suspicion_.reset();
  }
  const std::lock_guard lock(peer->sink_mutex_);
  peer->sink_ = nullptr;
}

HeartbeatCounters HeartbeatLoop::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

std::string HeartbeatLoop::path_name(const HeartbeatPeer& peer, std::size_t path) const {
  const auto& to = peer.paths_[path].to;
  const std::string where = to ? to->to_string() : "";  // A socket pair's end has no name.
  return where.empty() ? fmt::format("path {}", path + 1)
                       : fmt::format("path {} ({})", path + 1, where);
}

void HeartbeatLoop::run() {
  os::prefer_this_thread();
  Time planned = kNever;
  for (;;) {
    wait_until(planned);
    std::vector<Told> told;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      wake_.drain();
      told = turn(planned, clock_.now());
      planned = next_due();
    }
    for (const auto& [peer, events] : told) {
      const std::lock_guard lock(peer->sink_mutex_);
      for (const auto& event : events)
        if (peer->sink_) peer->sink_(event);
    }
  }
}

Time HeartbeatLoop::next_due() const {
  Time due = kNever;
  for (const auto& [key, peer] : peers_)
    due = std::min({due, peer->next_send_, peer->suspicion_->next_check()});
  return due;
}

void HeartbeatLoop::wait_until(Time due) const {
  std::vector<pollfd> fds{{wake_.fd(), POLLIN, 0}};
  for (const auto& socket : sockets_) fds.push_back({socket.fd(), POLLIN, 0});
  timespec timeout{};
  if (due != kNever) {
    const Nanos left = std::max(due - clock_.now(), Nanos{0});
    timeout.tv_sec = static_cast<time_t>(left / std::chrono::seconds{1});
    timeout.tv_nsec = static_cast<long>((left % std::chrono::seconds{1}).count());
  }
  ::ppoll(fds.data(), fds.size(), due == kNever ? nullptr : &timeout, nullptr);
}

// In this order: our own absence first, then what arrived during it, and only then what the silence
// means. The other way round a host that was suspended would accuse its peer on waking up.
std::vector<HeartbeatLoop::Told> HeartbeatLoop::turn(Time planned, Time now) {
  std::vector<Told> told;
  for (auto& [key, peer] : peers_) peer->suspicion_->slept_over(planned, now);
  for (std::size_t i = 0; i < sockets_.size(); ++i) drain(i, now, told);
  for (auto& [key, peer] : peers_) {
    auto events = peer->suspicion_->check(now);
    if (!events.empty()) told.push_back({peer, std::move(events)});
    if (peer->next_send_ <= now) send(*peer, now);
  }
  return told;
}

void HeartbeatLoop::drain(std::size_t socket, Time now, std::vector<Told>& told) {
  for (int i = 0; i < kDatagramsPerTurn; ++i) {
    std::array<std::uint8_t, kHeartbeatBytes> buffer{};
    const auto received = sockets_[socket].receive(buffer);
    if (!received) return;
    const auto opened =
        received->bytes == buffer.size() ? key_.open(buffer) : HeartbeatKey::Opened{};
    if (opened.heartbeat) {
      receive(socket, *opened.heartbeat, received->from, now, told);
    } else {
      ++(opened.reason == HeartbeatKey::Reason::proof ? counters_.bad_proof : counters_.malformed);
    }
  }
}

void HeartbeatLoop::receive(std::size_t socket, const Heartbeat& heartbeat,
                            const os::SocketAddress& from, Time now, std::vector<Told>& told) {
  const auto at = peers_.find({heartbeat.guest, heartbeat.token});
  if (at == peers_.end()) {
    ++counters_.strangers;
    return;
  }
  HeartbeatPeer& peer = *at->second;
  if (heartbeat.sender == peer.self_) {
    ++counters_.bad_proof;
    return;
  }
  if (!locate(peer, socket, heartbeat, from, now)) return;
  ++counters_.heard;
  peer.echo_ = std::max(peer.echo_, heartbeat.sequence);
  auto events = peer.suspicion_->heard(heartbeat.path, now, heartbeat.progress);
  if (!events.empty()) told.push_back({at->second, std::move(events)});
}

// Finds the path, learning it and its address on the listening side. False: dropped and counted.
bool HeartbeatLoop::locate(HeartbeatPeer& peer, std::size_t socket, const Heartbeat& heartbeat,
                           const os::SocketAddress& from, Time now) {
  const bool listening = peer.self_ == HeartbeatSide::listener;
  while (listening && peer.paths_.size() < heartbeat.paths) {
    peer.paths_.push_back({});
    peer.suspicion_->add_path(path_name(peer, peer.paths_.size() - 1), now);
  }
  if (heartbeat.path >= peer.paths_.size()) {
    ++counters_.malformed;
    return false;
  }
  auto& path = peer.paths_[heartbeat.path];
  if (heartbeat.sequence <= path.newest) {
    ++counters_.replayed;
    return false;
  }
  path.newest = heartbeat.sequence;
  if (listening) {
    if (!path.to) peer.next_send_ = now;  // The other side waits for its first.
    path.socket = socket;
    path.to = from;
  }
  return true;
}

void HeartbeatLoop::send(HeartbeatPeer& peer, Time now) {
  // From now, not from when it was due: after an absence one heartbeat is enough.
  peer.next_send_ = now + peer.options_.interval;
  Heartbeat heartbeat;
  heartbeat.sender = peer.self_;
  heartbeat.paths = static_cast<std::uint8_t>(peer.paths_.size());
  heartbeat.guest = peer.guest_.bytes();
  heartbeat.token = peer.token_;
  heartbeat.sequence = ++peer.sequence_;
  heartbeat.progress = peer.progress_.load(std::memory_order_relaxed);
  heartbeat.echo = peer.echo_;
  for (std::size_t i = 0; i < peer.paths_.size(); ++i) {
    const auto& path = peer.paths_[i];
    if (!path.to) continue;
    heartbeat.path = static_cast<std::uint8_t>(i);
    counters_.sent += sockets_[path.socket].send(key_.seal(heartbeat), *path.to);
  }
}

}  // namespace libft::failover
