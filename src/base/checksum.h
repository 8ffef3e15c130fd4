// SPDX-License-Identifier: LGPL-2.1-or-later
// XXH3-64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md), the checksum of frames, pages
// and epochs. It finds accidents, not forgeries: a peer is authenticated by its transport. Values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace libft::base {

std::uint64_t checksum(std::span<const std::byte> bytes);

// The same over `head` and `tail` as if they lay back to back.
std::uint64_t checksum(std::span<const std::byte> head, std::span<const std::byte> tail);

// The same over bytes that come in pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  ~RunningChecksum();
  RunningChecksum(const RunningChecksum&) = delete;
  RunningChecksum& operator=(const RunningChecksum&) = delete;

  void restart();
  void add(std::span<const std::byte> bytes);
  std::uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace libft::base
