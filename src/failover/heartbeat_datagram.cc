// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/heartbeat_datagram.h"

#include <algorithm>

#include "base/sha256.h"

namespace libft::failover {
namespace {

constexpr std::array<std::uint8_t, 4> kMagic = {'F', 'T', 'H', 'B'};
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kProofAt = 56;
constexpr std::string_view kPurpose = "libft heartbeat 1";

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

void put_u64(std::uint8_t* at, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) at[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint64_t get_u64(const std::uint8_t* at) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value |= std::uint64_t{at[i]} << (8 * i);
  return value;
}

void put_fields(HeartbeatBytes& bytes, const Heartbeat& heartbeat) {
  std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
  bytes[4] = kVersion;
  bytes[5] = static_cast<std::uint8_t>(heartbeat.sender);
  bytes[6] = heartbeat.path;
  bytes[7] = heartbeat.paths;
  std::copy(heartbeat.guest.begin(), heartbeat.guest.end(), bytes.begin() + 8);
  put_u64(&bytes[24], heartbeat.token);
  put_u64(&bytes[32], heartbeat.sequence);
  put_u64(&bytes[40], heartbeat.progress);
  put_u64(&bytes[48], heartbeat.echo);
}

Heartbeat get_fields(std::span<const std::uint8_t> bytes) {
  Heartbeat heartbeat;
  heartbeat.sender = HeartbeatSide{bytes[5]};
  heartbeat.path = bytes[6];
  heartbeat.paths = bytes[7];
  std::copy_n(bytes.begin() + 8, 16, heartbeat.guest.begin());
  heartbeat.token = get_u64(&bytes[24]);
  heartbeat.sequence = get_u64(&bytes[32]);
  heartbeat.progress = get_u64(&bytes[40]);
  heartbeat.echo = get_u64(&bytes[48]);
  return heartbeat;
}

bool well_formed(std::span<const std::uint8_t> bytes) {
  return bytes.size() == kHeartbeatBytes &&
         std::equal(kMagic.begin(), kMagic.end(), bytes.begin()) && bytes[4] == kVersion &&
         bytes[5] <= 1 && bytes[7] >= 1 && bytes[7] <= kHeartbeatPathsMax && bytes[6] < bytes[7];
}

}  // namespace

HeartbeatKey::HeartbeatKey(std::string_view pre_shared)
    : key_(base::hmac_sha256(bytes_of(pre_shared), bytes_of(kPurpose))) {}

std::array<std::uint8_t, 16> HeartbeatKey::proof(std::span<const std::uint8_t> bytes) const {
  const auto digest = base::hmac_sha256(key_, bytes);
  std::array<std::uint8_t, 16> proof{};
  std::copy_n(digest.begin(), proof.size(), proof.begin());
  return proof;
}

HeartbeatBytes HeartbeatKey::seal(const Heartbeat& heartbeat) const {
  HeartbeatBytes bytes{};
  put_fields(bytes, heartbeat);
  const auto proven = proof(std::span(bytes).first(kProofAt));
  std::copy(proven.begin(), proven.end(), bytes.begin() + kProofAt);
  return bytes;
}

HeartbeatKey::Opened HeartbeatKey::open(std::span<const std::uint8_t> datagram) const {
  if (!well_formed(datagram)) return {std::nullopt, Reason::malformed};
  const auto proven = proof(datagram.first(kProofAt));
  if (!base::equal_in_constant_time(proven, datagram.subspan(kProofAt)))
    return {std::nullopt, Reason::proof};
  return {get_fields(datagram), {}};
}

}  // namespace libft::failover
