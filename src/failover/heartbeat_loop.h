// SPDX-License-Identifier: LGPL-2.1-or-later
// The engine under both kinds of heartbeat detectors: one thread, one or two sockets, any number of
// watched peers. The hub runs one for all of its guests, a dialling detector one for itself.
// Any thread may call; sinks are called from the loop's thread, without its lock.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/suspicion.h"
#include "failover/datagram_socket.h"
#include "failover/heartbeat_datagram.h"
#include "os/event_fd.h"
#include "os/real_clock.h"

namespace libft::failover {

struct HeartbeatCounters {
  std::uint64_t sent = 0, heard = 0;
  std::uint64_t malformed = 0, bad_proof = 0, strangers = 0, replayed = 0;  // Dropped.
  auto operator<=>(const HeartbeatCounters&) const = default;
};

// One watched peer, as the loop sees it.
class HeartbeatPeer {
 public:
  struct Path {
    std::size_t socket = 0;
    std::optional<os::SocketAddress> to;  // Learnt on the listening side.
    std::uint64_t newest = 0;             // Highest sequence heard.
  };

  HeartbeatPeer(HeartbeatSide self, const GuestId& guest, std::uint64_t token,
                DetectorOptions options, std::vector<Path> paths)
      : self_(self), guest_(guest), token_(token), options_(options), paths_(std::move(paths)) {}

  const DetectorOptions& options() const { return options_; }
  void progress() { progress_.fetch_add(1, std::memory_order_relaxed); }

 private:
  friend class HeartbeatLoop;

  const HeartbeatSide self_;
  const GuestId guest_;
  const std::uint64_t token_;
  const DetectorOptions options_;
  std::atomic<std::uint64_t> progress_{0};

  // Under the loop's lock:
  std::vector<Path> paths_;
  std::optional<core::Suspicion> suspicion_;  // While watched.
  std::uint64_t sequence_ = 0;
  std::uint64_t echo_ = 0;
  Time next_send_;

  std::mutex sink_mutex_;  // Held while the sink runs: stop() waits for it.
  std::function<void(DetectorEvent)> sink_;
};

class HeartbeatLoop {
 public:
  static Result<std::unique_ptr<HeartbeatLoop>> open(std::vector<DatagramSocket> sockets,
                                                     std::string_view key);
  ~HeartbeatLoop();

  void watch(const std::shared_ptr<HeartbeatPeer>& peer, std::function<void(DetectorEvent)> sink);
  // After this no call of the sink runs. Not to be called from the sink.
  void forget(const std::shared_ptr<HeartbeatPeer>& peer);

  HeartbeatCounters counters() const;
  std::string address(std::size_t socket) const { return sockets_.at(socket).address(); }
  std::size_t sockets() const { return sockets_.size(); }
  const std::optional<os::SocketAddress>& peer(std::size_t socket) const {
    return sockets_.at(socket).peer();
  }

 private:
  using Key = std::pair<std::array<std::uint8_t, 16>, std::uint64_t>;
  struct Told {
    std::shared_ptr<HeartbeatPeer> peer;
    std::vector<DetectorEvent> events;
  };

  HeartbeatLoop(std::vector<DatagramSocket> sockets, std::string_view key, os::EventFd wake);

  void run();
  Time next_due() const;
  void wait_until(Time due) const;
  std::vector<Told> turn(Time planned, Time now);
  void drain(std::size_t socket, Time now, std::vector<Told>& told);
  void receive(std::size_t socket, const Heartbeat& heartbeat, const os::SocketAddress& from,
               Time now, std::vector<Told>& told);
  bool locate(HeartbeatPeer& peer, std::size_t socket, const Heartbeat& heartbeat,
              const os::SocketAddress& from, Time now);
  void send(HeartbeatPeer& peer, Time now);
  std::string path_name(const HeartbeatPeer& peer, std::size_t path) const;

  const HeartbeatKey key_;
  const os::EventFd wake_;
  const os::RealClock clock_;
  const std::vector<DatagramSocket> sockets_;

  mutable std::mutex mutex_;
  bool stopping_ = false;
  std::map<Key, std::shared_ptr<HeartbeatPeer>> peers_;
  HeartbeatCounters counters_;

  std::jthread thread_;
};

}  // namespace libft::failover
