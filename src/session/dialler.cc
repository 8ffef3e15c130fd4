// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/dialler.h"

#include <fmt/format.h>

#include <string_view>

#include "failover/heartbeat_detector.h"
#include "os/socket.h"
#include "transport/transports.h"

namespace libft::session {
namespace {

constexpr std::chrono::seconds kTurnedAwayWithin{3}, kConnectTimeout{2};
constexpr std::string_view kTcp = "tcp:", kUnix = "unix:";

std::string address_of(const std::string& peer, std::uint16_t port) {
  if (peer.starts_with(kUnix)) return fmt::format("127.0.0.1:{}", port);
  const std::string where = peer.substr(kTcp.size());
  return fmt::format("{}:{}", where.substr(0, where.rfind(':')), port);
}

std::string heartbeat_key(const transport::Options& options) {
  return options.psk ? transport::to_text(*options.psk) : std::string();
}

}  // namespace

std::string with_scheme(const std::string& address) {
  return address.starts_with(kTcp) || address.starts_with(kUnix) ? address
                                                                 : std::string(kTcp) + address;
}

bool stays_on_this_host(const std::string& address) {
  if (address.starts_with(kUnix)) return true;
  const std::string where = address.substr(kTcp.size());
  return where.starts_with("127.") || where.starts_with("[::1]") || where.starts_with("localhost:");
}

Result<std::vector<std::string>> heartbeat_addresses(const std::vector<std::string>& told,
                                                     const std::string& listen) {
  if (!told.empty()) return told;
  const std::string address = with_scheme(listen);
  if (address.starts_with(kUnix)) return std::vector<std::string>{"127.0.0.1:0"};
  FT_ASSIGN(const os::HostPort where, os::parse_host_port(address.substr(kTcp.size())));
  const std::string host =
      where.host.find(':') == std::string::npos ? where.host : "[" + where.host + "]";
  const int port = where.port == 0 ? 0 : where.port + 1;
  return std::vector<std::string>{
      fmt::format("{}:{}", host.empty() ? "0.0.0.0" : host, port > 65535 ? 0 : port)};
}

Dialler::Dialler(const std::vector<std::string>& peers, const GuestId& guest,
                 transport::Options options, DetectorOptions detector)
    : guest_(guest), options_(std::move(options)), detector_(detector) {
  for (const std::string& peer : peers) peers_.push_back(with_scheme(peer));
  options_.connect_timeout = kConnectTimeout;  // There may be another peer to try.
}

Result<std::unique_ptr<Transport>> Dialler::dial(bool another_way) {
  const auto now = std::chrono::steady_clock::now();
  const bool turned_away = now - connected_at_ < kTurnedAwayWithin;
  const std::size_t first = connected_ + (turned_away || another_way ? 1 : 0);
  Status why(Code::not_found, "no peer is named");
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const std::size_t index = (first + i) % peers_.size();
    auto transport = transport::open(peers_[index], options_);
    if (transport) {
      connected_ = index;
      connected_at_ = std::chrono::steady_clock::now();
      return transport;
    }
    why = transport.error().within(peers_[index]);
  }
  return failure(std::move(why));
}

Result<std::unique_ptr<Detector>> Dialler::heartbeats(std::uint64_t token,
                                                      std::uint16_t port) const {
  std::vector<std::string> to{address_of(peers_[connected_], port)};
  // A second address of the same primary is a second path; of a host that is no primary, a path
  // that stays silent, which alone raises no suspicion.
  for (std::size_t i = 0; i < peers_.size() && to.size() < 2; ++i) {
    if (i != connected_) to.push_back(address_of(peers_[i], port));
  }
  return failover::dial_heartbeats(to, guest_, token, heartbeat_key(options_), detector_);
}

}  // namespace libft::session
