// SPDX-License-Identifier: LGPL-2.1-or-later
#include "base/checksum.h"

#define XXH_STATIC_LINKING_ONLY  // For the size of XXH3_state_t.
#include <xxhash.h>

namespace libft::base {

struct RunningChecksum::State {
  XXH3_state_t xxh;
};

std::uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::uint64_t checksum(std::span<const std::byte> head, std::span<const std::byte> tail) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, head.data(), head.size());
  XXH3_64bits_update(&state, tail.data(), tail.size());
  return XXH3_64bits_digest(&state);
}

RunningChecksum::RunningChecksum() : state_(std::make_unique<State>()) { restart(); }
RunningChecksum::~RunningChecksum() = default;

void RunningChecksum::restart() { XXH3_64bits_reset(&state_->xxh); }

void RunningChecksum::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(&state_->xxh, bytes.data(), bytes.size());
}

std::uint64_t RunningChecksum::value() const { return XXH3_64bits_digest(&state_->xxh); }

}  // namespace libft::base
