// SPDX-License-Identifier: LGPL-2.1-or-later
// A FrameRing is a bounded first-in, first-out store of Ethernet frames in one block of memory that
// is reserved at the start: a gate must not allocate, and so wait, once for each frame. The gates
// use it. Not thread-safe: its owner locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "libft/status.h"

namespace libft::output {

// The largest frame a NIC can hand over: an MTU of 65535, an Ethernet header and a VLAN tag.
inline constexpr std::size_t kFrameBytesMax = 65535 + 18;

struct Frame {
  unsigned nic = 0;
  std::span<const std::byte> bytes;  // Valid until the frame is popped.
};

class FrameRing {
 public:
  // Memory is reserved here and touched only as far as frames fill it.
  static Result<FrameRing> create(std::size_t capacity_bytes);

  // Where a frame lies, until it is popped.
  struct Place {
    std::size_t offset = 0;
  };
  // None, and nothing stored, when the frame does not fit. REQUIRES: at most kFrameBytesMax.
  std::optional<Place> push(const Frame& frame);
  Frame front() const;  // REQUIRES: not empty.
  Frame at(Place place) const;
  void pop();  // REQUIRES: not empty.
  void clear();

  bool empty() const { return frames_ == 0; }
  std::size_t frames() const { return frames_; }
  std::size_t payload_bytes() const { return payload_bytes_; }
  // How many further frames of the largest size are sure to fit.
  std::size_t room() const;

 private:
  FrameRing(std::unique_ptr<std::byte[]> memory, std::size_t capacity)
      : memory_(std::move(memory)), capacity_(capacity) {}
  std::byte* place(std::size_t bytes);
  std::size_t front_offset() const;

  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_;
  std::size_t head_ = 0;  // Where the oldest record begins, or a mark that says "at 0".
  std::size_t tail_ = 0;  // Where the next one goes.
  std::size_t frames_ = 0;
  std::size_t payload_bytes_ = 0;
};

}  // namespace libft::output
