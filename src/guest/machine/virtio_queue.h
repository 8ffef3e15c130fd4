// SPDX-License-Identifier: LGPL-2.1-or-later
// A split virtqueue (virtio 1.2, 2.7), seen from the device. What the driver wrote is not trusted:
// a chain that makes no sense breaks the queue, and the device says that it needs a reset.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "archive.h"
#include "memory.h"

namespace libft::machine {

class VirtioQueue {
 public:
  static constexpr std::uint16_t kSizeMax = 256;
  static constexpr std::uint32_t kChainBytesMax = 1 << 20;

  struct Segment {
    std::uint64_t address = 0;
    std::uint32_t bytes = 0;
  };
  struct Chain {
    std::uint16_t head = 0;
    std::vector<Segment> readable, writable;
    std::uint32_t writable_bytes() const;
  };

  // As the driver configures it.
  std::uint32_t size = kSizeMax;
  bool ready = false;
  std::uint64_t descriptors = 0, available = 0, used = 0;

  bool broken() const { return broken_; }
  bool has_chain(const Memory& memory);
  std::optional<Chain> take(const Memory& memory);
  // Gives a chain back, of which `bytes` were written. True: the driver wants to be interrupted.
  bool give_back(Memory& memory, const Chain& chain, std::uint32_t bytes);

  static std::vector<std::byte> gather(const Memory& memory, const std::vector<Segment>& from);
  // Writes as much of `bytes` as fits. Returns how much that was.
  static std::uint32_t scatter(Memory& memory, const std::vector<Segment>& to,
                               std::span<const std::byte> bytes);

  void archive(Archive& a);

 private:
  template <class T>
  std::optional<T> read(const Memory& memory, std::uint64_t address);
  bool follow(const Memory& memory, std::uint16_t index, Chain& chain);

  bool broken_ = false;
  std::uint16_t taken_ = 0, given_ = 0;  // Chains so far, modulo 2^16.
};

}  // namespace libft::machine
