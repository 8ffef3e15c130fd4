// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/memory_gate.h"

namespace libft::output {

Result<std::unique_ptr<MemoryGate>> MemoryGate::create(const MemoryGateOptions& options,
                                                       Deliver deliver) {
  HeldLimits limits;
  limits.bytes_max = options.bytes_held_max;
  limits.frames_max = options.frames_held_max;
  limits.epochs_max = options.epochs_held_max;
  limits.reserve_bytes = 4 * kFrameBytesMax;  // The one frame that crosses the limit.
  FT_ASSIGN(auto held, HeldFrames::create(limits));
  return std::unique_ptr<MemoryGate>(new MemoryGate(options, std::move(held), std::move(deliver)));
}

bool MemoryGate::emit(std::span<const std::byte> bytes) {
  if (held_.full()) return false;
  const auto pushed = held_.push({0, bytes});
  publish();
  switch (pushed) {
    case HeldFrames::Pushed::no_room: return false;
    case HeldFrames::Pushed::first_waiting:
      if (waiting_) waiting_();
      return true;
    case HeldFrames::Pushed::waiting: return true;
    case HeldFrames::Pushed::due: deliver_due(); return true;
  }
  return false;
}

void MemoryGate::deliver_due() {
  while (held_.due()) {
    deliver_(held_.front().bytes);
    held_.pop();
    ++released_;
    publish();
  }
}

void MemoryGate::publish() {
  frames_held_ = held_.frames();
  bytes_held_ = held_.bytes();
}

GateLimits MemoryGate::limits() const {
  return {options_.epochs_held_max, options_.bytes_held_max};
}

Status MemoryGate::seal(EpochId id) { return held_.seal(id); }

Status MemoryGate::hold() {
  held_.hold();
  return {};
}

Status MemoryGate::release(EpochId id) {
  held_.release(id);
  deliver_due();
  return {};
}

void MemoryGate::discard() {
  discarded_ += held_.discard();
  publish();
}

Status MemoryGate::open() {
  held_.open();
  deliver_due();
  return {};
}

GateStatistics MemoryGate::statistics() const {
  GateStatistics statistics;
  statistics.packets_held = frames_held_;
  statistics.bytes_held = bytes_held_;
  statistics.packets_released = released_;
  statistics.packets_discarded = discarded_;
  return statistics;
}

}  // namespace libft::output
