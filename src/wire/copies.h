// SPDX-License-Identifier: LGPL-2.1-or-later
// Copies of Ethernet frames, for the comparison of what two hosts say: of those that came in for
// the guest, to the backup, and of those that its follower sent, to the primary (FORMAT.md, section
// 4, "Two that run"). Pure: bytes in, values out; encode beside decode.
#pragma once

#include <span>
#include <vector>

#include "libft/status.h"
#include "libft/types.h"
#include "wire/frame.h"

namespace libft::wire {

constexpr std::size_t kCopyBytesMax = 65535 + 18;  // One Ethernet frame.
constexpr std::size_t kCopiesBytesMax = 1u << 20;  // Of what a CopiesWriter puts into one frame.

struct FrameCopy {  // A view, as long as the frame that it came in.
  unsigned nic = 0;
  std::span<const std::byte> bytes;
};

// Collects copies into whole frames, back to back, of one type and one checkpoint at a time.
class CopiesWriter {
 public:
  CopiesWriter(FrameType type, const GuestId& guest) : type_(type), guest_(guest) {}

  // Under another `from` than before, or beyond kCopiesBytesMax, a new frame begins.
  // REQUIRES: nic below 256, bytes at most kCopyBytesMax.
  void add(const EpochId& from, const FrameCopy& copy);
  std::size_t bytes() const { return bytes_.size(); }
  std::vector<std::byte> take();  // All of it; empty when nothing was added.

 private:
  void finish();

  FrameType type_;
  GuestId guest_;
  std::vector<std::byte> bytes_;
  std::size_t frame_at_ = 0;  // Where the frame begins that is not finished.
  bool open_ = false;
  EpochId from_;
};

// The copies in a frame of either type, in order; at least one.
Result<std::vector<FrameCopy>> decode_copies(const Frame& frame);

}  // namespace libft::wire
