// SPDX-License-Identifier: LGPL-2.1-or-later
// The heartbeat datagram as a value, and as bytes: HEARTBEAT.md is the specification.
// Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "libft/types.h"

namespace libft::failover {

constexpr std::size_t kHeartbeatBytes = 72;
constexpr std::size_t kHeartbeatPathsMax = 2;

enum class HeartbeatSide : std::uint8_t { dialler = 0, listener = 1 };

struct Heartbeat {
  HeartbeatSide sender = HeartbeatSide::dialler;
  std::uint8_t path = 0;
  std::uint8_t paths = 1;
  std::array<std::uint8_t, 16> guest{};
  std::uint64_t token = 0;
  std::uint64_t sequence = 0;
  std::uint64_t progress = 0;
  std::uint64_t echo = 0;
  bool operator==(const Heartbeat&) const = default;
};

using HeartbeatBytes = std::array<std::uint8_t, kHeartbeatBytes>;

class HeartbeatKey {
 public:
  explicit HeartbeatKey(std::string_view pre_shared);  // Empty: no secret.

  HeartbeatBytes seal(const Heartbeat& heartbeat) const;

  enum class Reason { malformed, proof };
  struct Opened {
    std::optional<Heartbeat> heartbeat;
    Reason reason = Reason::malformed;  // When there is none.
  };
  Opened open(std::span<const std::uint8_t> datagram) const;

 private:
  std::array<std::uint8_t, 16> proof(std::span<const std::uint8_t> bytes) const;
  std::array<std::uint8_t, 32> key_{};
};

}  // namespace libft::failover
