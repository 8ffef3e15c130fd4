// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/held_frames.h"

#include <fmt/format.h>

namespace libft::output {

Result<HeldFrames> HeldFrames::create(const HeldLimits& limits) {
  if (limits.bytes_max == 0 || limits.frames_max == 0 || limits.epochs_max == 0) {
    return failure(Code::invalid, "a gate's limits of bytes, frames and epochs must be above zero");
  }
  // Small frames need more than their payload: eight bytes of header, and up to seven to align.
  const std::uint64_t overhead = std::uint64_t{limits.frames_max} * 16;
  FT_ASSIGN(auto ring, FrameRing::create(limits.bytes_max + limits.reserve_bytes + overhead));
  return HeldFrames(limits, std::move(ring));
}

void HeldFrames::open() {
  open_ = true;
  sealed_.clear();
  due_end_ = sealed_end_ = pushed_;
}

bool HeldFrames::full() const {
  return ring_.payload_bytes() >= limits_.bytes_max || ring_.frames() >= limits_.frames_max;
}

HeldFrames::Pushed HeldFrames::push(const Frame& frame) {
  if (!ring_.push(frame)) return Pushed::no_room;
  ++pushed_;
  if (open_) {
    due_end_ = sealed_end_ = pushed_;
    return Pushed::due;
  }
  return pushed_ == sealed_end_ + 1 ? Pushed::first_waiting : Pushed::waiting;
}

Status HeldFrames::seal(EpochId id) {
  if (id <= sealed_last_) {
    return Status(Code::invalid,
                  fmt::format("seal epoch {}: epoch {} was sealed before, and ids ascend",
                              to_string(id), to_string(sealed_last_)));
  }
  if (sealed_.size() >= limits_.epochs_max) {
    return Status(Code::exhausted,
                  fmt::format("seal epoch {}: {} sealed epochs wait for their release, the limit",
                              to_string(id), sealed_.size()));
  }
  sealed_last_ = id;
  if (open_) return {};  // It all left already: nothing to remember.
  sealed_end_ = pushed_;
  sealed_.push_back({id, pushed_});
  return {};
}

void HeldFrames::release(EpochId id) {
  while (!sealed_.empty() && sealed_.front().id <= id) {
    due_end_ = sealed_.front().end;
    sealed_.pop_front();
  }
}

std::uint64_t HeldFrames::discard() {
  const std::uint64_t frames = ring_.frames();
  ring_.clear();
  sealed_.clear();
  open_ = false;
  popped_ = due_end_ = sealed_end_ = pushed_;
  return frames;
}

void HeldFrames::pop() {
  ring_.pop();
  ++popped_;
}

}  // namespace libft::output
