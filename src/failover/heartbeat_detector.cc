// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/heartbeat_detector.h"

#include <fmt/format.h>

namespace libft::failover {
namespace {

Status check_count(std::size_t count, std::string_view what) {
  if (count >= 1 && count <= kHeartbeatPathsMax) return {};
  return Status(Code::invalid,
                fmt::format("{} takes 1 to {} paths, not {}", what, kHeartbeatPathsMax, count));
}

Status check_options(const DetectorOptions& options) {
  if (options.interval >= Millis{1} && options.interval <= std::chrono::minutes{1} &&
      options.missed_max >= 1 && options.missed_max <= 1000 &&
      options.stuck_after > core::silence_limit(options, core::Watched::primary))
    return {};
  return Status(Code::invalid,
                "heartbeats: use an interval of 1 ms to 1 min, 1 to 1000 missed, and a limit for a "
                "session that stands still that is above interval * (missed + 1/2)");
}

}  // namespace

Status HeartbeatDetector::start(std::function<void(DetectorEvent)> sink) {
  FT_TRY(check_options(peer_->options()));
  loop_->watch(peer_, std::move(sink));
  return {};
}

Result<std::unique_ptr<HeartbeatHub>> HeartbeatHub::open(const std::vector<std::string>& addresses,
                                                         std::string_view key) {
  FT_TRY(check_count(addresses.size(), "a heartbeat listener"));
  std::vector<DatagramSocket> sockets;
  for (const auto& address : addresses) {
    FT_ASSIGN(DatagramSocket socket, DatagramSocket::bound(address));
    sockets.push_back(std::move(socket));
  }
  FT_ASSIGN(std::shared_ptr<HeartbeatLoop> loop, HeartbeatLoop::open(std::move(sockets), key));
  return std::unique_ptr<HeartbeatHub>(new HeartbeatHub(std::move(loop)));
}

Result<std::unique_ptr<HeartbeatHub>> HeartbeatHub::over(std::vector<os::ScopedFd> given,
                                                         std::string_view key) {
  FT_TRY(check_count(given.size(), "a heartbeat over descriptors"));
  std::vector<DatagramSocket> sockets;
  for (auto& fd : given) {
    FT_ASSIGN(DatagramSocket socket, DatagramSocket::given(std::move(fd)));
    sockets.push_back(std::move(socket));
  }
  FT_ASSIGN(std::shared_ptr<HeartbeatLoop> loop, HeartbeatLoop::open(std::move(sockets), key));
  return std::unique_ptr<HeartbeatHub>(new HeartbeatHub(std::move(loop)));
}

bool HeartbeatHub::connected() const {
  for (std::size_t i = 0; i < loop_->sockets(); ++i)
    if (!loop_->peer(i)) return false;
  return true;
}

Result<std::unique_ptr<Detector>> HeartbeatHub::dial(const GuestId& guest, std::uint64_t token,
                                                     DetectorOptions options) {
  FT_TRY(check_options(options));
  std::vector<HeartbeatPeer::Path> paths(loop_->sockets());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (!loop_->peer(i))
      return failure(Code::invalid,
                     "heartbeats: a backup's sockets are connected to the primary; "
                     "remedy: connect() them");
    paths[i].socket = i;
    paths[i].to = loop_->peer(i);
  }
  return std::make_unique<HeartbeatDetector>(
      loop_, std::make_shared<HeartbeatPeer>(HeartbeatSide::dialler, guest, token, options,
                                             std::move(paths)));
}

std::unique_ptr<Detector> HeartbeatHub::expect(const GuestId& guest, std::uint64_t token,
                                               DetectorOptions options) {
  std::vector<HeartbeatPeer::Path> paths(1);  // A second one shows itself.
  return std::make_unique<HeartbeatDetector>(
      loop_, std::make_shared<HeartbeatPeer>(HeartbeatSide::listener, guest, token, options,
                                             std::move(paths)));
}

std::uint16_t HeartbeatHub::port(std::size_t index) const {
  // A unix socket has none, nor need one have that somebody else opened.
  const auto where = os::parse_host_port(address(index));
  return where ? where->port : 0;
}

Result<std::unique_ptr<Detector>> dial_heartbeats(const std::vector<std::string>& peer_addresses,
                                                  const GuestId& guest, std::uint64_t token,
                                                  std::string_view key, DetectorOptions options) {
  FT_TRY(check_count(peer_addresses.size(), "a heartbeat peer"));
  FT_TRY(check_options(options));
  std::vector<DatagramSocket> sockets;
  std::vector<HeartbeatPeer::Path> paths;
  for (const auto& text : peer_addresses) {
    const auto mark = text.starts_with("unix:") ? std::string::npos : text.find('@');
    const std::string source = mark == std::string::npos ? "" : text.substr(mark + 1);
    HeartbeatPeer::Path path;
    path.socket = sockets.size();
    FT_ASSIGN(path.to, datagram_address(text.substr(0, mark), os::ResolveFor::connecting));
    FT_ASSIGN(DatagramSocket socket, DatagramSocket::towards(*path.to, source));
    sockets.push_back(std::move(socket));
    paths.push_back(path);
  }
  FT_ASSIGN(std::shared_ptr<HeartbeatLoop> loop, HeartbeatLoop::open(std::move(sockets), key));
  return std::make_unique<HeartbeatDetector>(
      std::move(loop), std::make_shared<HeartbeatPeer>(HeartbeatSide::dialler, guest, token,
                                                       options, std::move(paths)));
}

}  // namespace libft::failover
