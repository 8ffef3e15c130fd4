// SPDX-License-Identifier: LGPL-2.1-or-later
// The Dialler is how a backup finds its primary by addresses: it dials the peers in turn, whoever
// of them is the primary now, and remembers which one answered, because heartbeats go to that one.
// dial() and heartbeats() come from one thread each, as SessionParts asks for them.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "libft/detector.h"
#include "libft/transport.h"
#include "transport/options.h"

namespace libft::session {

std::string with_scheme(const std::string& address);  // "10.0.0.1:7070" is TCP.
bool stays_on_this_host(const std::string& address);  // REQUIRES: it has a scheme.

// Where a host listens for heartbeats: as it was told, else as it listens for backups, port + 1. A
// unix listener is for one host, where any loopback port will do.
Result<std::vector<std::string>> heartbeat_addresses(const std::vector<std::string>& told,
                                                     const std::string& listen);

class Dialler {
 public:
  Dialler(const std::vector<std::string>& peers, const GuestId& guest, transport::Options options,
          DetectorOptions detector);

  // Beginning with the one that answered last, unless it turned us away (then that was no primary)
  // or has fallen silent.
  Result<std::unique_ptr<Transport>> dial(bool another_way);
  Result<std::unique_ptr<Detector>> heartbeats(std::uint64_t token, std::uint16_t port) const;

 private:
  GuestId guest_;
  transport::Options options_;
  DetectorOptions detector_;
  std::vector<std::string> peers_;
  std::atomic<std::size_t> connected_ = 0;
  std::chrono::steady_clock::time_point connected_at_{};
};

}  // namespace libft::session
