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
  singles_.clear();
  due_end_ = sealed_end_ = pushed_;
}

bool HeldFrames::full() const {
  return ring_.payload_bytes() >= limits_.bytes_max || ring_.frames() >= limits_.frames_max;
}

HeldFrames::Pushed HeldFrames::push(const Frame& frame) {
  const auto place = ring_.push(frame);
  if (!place) return Pushed::no_room;
  slots_.push_back({*place});
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
  const std::uint64_t held = frames();
  ring_.clear();
  sealed_.clear();
  slots_.clear();
  singles_.clear();
  gone_ = gone_bytes_ = 0;
  open_ = false;
  popped_ = due_end_ = sealed_end_ = pushed_;
  return held;
}

bool HeldFrames::is_held(std::uint64_t number) const {
  return number >= popped_ && number < pushed_ && !slots_[number - popped_].gone;
}

void HeldFrames::let_out(std::uint64_t number) {
  if (is_held(number) && number >= due_end_) singles_.push_back(number);
}

// Frames of one flow come in the order of their numbers in either queue, and an epoch's all before
// those that leave one by one: so a flow keeps its order.
void HeldFrames::pop() {
  if (popped_ < due_end_) {
    drop_front();
  } else {
    slots_[singles_.front() - popped_].gone = true;
    ++gone_;
    gone_bytes_ += ring_.at(single().place).bytes.size();
  }
  while (!slots_.empty() && slots_.front().gone) drop_front();
  while (!singles_.empty() && !is_held(singles_.front())) singles_.pop_front();
}

void HeldFrames::drop_front() {
  if (slots_.front().gone) {
    --gone_;
    gone_bytes_ -= ring_.front().bytes.size();
  }
  ring_.pop();
  slots_.pop_front();
  ++popped_;
}

}  // namespace libft::output
