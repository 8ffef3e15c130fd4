// SPDX-License-Identifier: LGPL-2.1-or-later
// HeldFrames is the law of a gate without its I/O: which frame belongs to which epoch, and which
// one may leave next. FramesGate and MemoryGate both stand on it, so that the simulator proves the
// very rule that production runs. Not thread-safe: its owner locks.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>

#include "libft/output_gate.h"
#include "output/frame_ring.h"

namespace libft::output {

struct HeldLimits {
  std::uint64_t bytes_max = 64ull << 20;     // At this many payload bytes...
  std::uint32_t frames_max = 1u << 17;       // ...or frames, full() says so.
  std::uint32_t epochs_max = 64;             // Sealed and not yet released.
  std::uint64_t reserve_bytes = 4ull << 20;  // Beyond full(): for what is on its way at a seal.
};

class HeldFrames {
 public:
  static Result<HeldFrames> create(const HeldLimits& limits);
  HeldFrames(HeldFrames&&) = default;
  HeldFrames& operator=(HeldFrames&&) = delete;  // Slots go before their blocks.

  // Held: seal() and release() decide. Open: every frame is due at once.
  bool is_open() const { return open_; }
  void hold() { open_ = false; }
  void open();

  // At the limit. A frame that comes nevertheless is stored while there is room().
  bool full() const;
  std::size_t room() const { return ring_.room(); }  // In frames of the largest size.

  enum class Pushed { no_room, first_waiting, waiting, due };
  Pushed push(const Frame& frame);

  // As in OutputGate. Ids ascend over the life of the object, also over a discard.
  Status seal(EpochId id);
  void release(EpochId id);
  std::uint64_t discard();  // Everything; the number of frames. Holds from then on.

  // The number of the frame that is pushed next. Numbers ascend over the life of the object.
  std::uint64_t next_number() const { return pushed_; }
  // One frame may leave before its epoch: behind what epochs let out, and what was let out so
  // before. One that is not held any more is passed over.
  void let_out(std::uint64_t number);

  // The next frame that may leave. Leaving is: front(), write it, pop().
  bool due() const { return popped_ < due_end_ || !singles_.empty(); }
  Frame front() const { return popped_ < due_end_ ? ring_.front() : ring_.at(single().place); }
  void pop();

  std::uint64_t frames() const { return ring_.frames() - gone_; }
  std::uint64_t bytes() const { return ring_.payload_bytes() - gone_bytes_; }

 private:
  struct Sealed {
    EpochId id;
    std::uint64_t end;  // The count of frames ever pushed when it was sealed.
  };

  struct Slot {
    FrameRing::Place place;
    bool gone = false;  // It left before those in front of it, which still lie in the ring.
  };

  HeldFrames(const HeldLimits& limits, FrameRing ring) : limits_(limits), ring_(std::move(ring)) {}
  bool is_held(std::uint64_t number) const;
  const Slot& single() const { return slots_[singles_.front() - popped_]; }
  void drop_front();

  HeldLimits limits_;
  FrameRing ring_;
  bool open_ = false;
  // Frames are counted from the first one ever: due_end <= sealed ends <= pushed, and popped is
  // beyond due_end only by single frames.
  std::uint64_t pushed_ = 0;
  std::uint64_t popped_ = 0;
  std::uint64_t due_end_ = 0;
  std::uint64_t sealed_end_ = 0;  // Frames from here on belong to no epoch yet.
  EpochId sealed_last_{};
  std::deque<Sealed> sealed_;  // At most epochs_max.
  // Of each frame in the ring, from popped_ to pushed_. A frame costs no allocation: blocks are
  // used again.
  std::unique_ptr<std::pmr::memory_resource> blocks_ =
      std::make_unique<std::pmr::unsynchronized_pool_resource>();
  std::pmr::deque<Slot> slots_{blocks_.get()};
  std::deque<std::uint64_t> singles_;  // To leave one by one; the first of them is held.
  std::uint64_t gone_ = 0, gone_bytes_ = 0;
};

}  // namespace libft::output
