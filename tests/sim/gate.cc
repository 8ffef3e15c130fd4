// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/gate.h"

namespace libft::sim {

void SimGate::send(Output output) {
  if (!holding_) return left_(output, std::nullopt);
  const bool first = current_.empty();
  current_.push_back(std::move(output));
  if (first && waiting_) waiting_();
}

Status SimGate::hold() {
  if (!never_hold) holding_ = true;
  return {};
}

Status SimGate::seal(EpochId id) {
  if (sealed_.size() >= epochs_held_max_)
    return Status(Code::exhausted, "the gate cannot tell more epochs apart");
  late_ = id;
  if (!seal_late) finish_seal();
  return {};
}

void SimGate::finish_seal() {
  if (!late_) return;
  if (holding_) sealed_.push_back({*late_, std::move(current_)});
  current_.clear();
  late_.reset();
}

Status SimGate::release(EpochId id) {
  while (!sealed_.empty() && sealed_.front().id <= id) {
    const Sealed sealed = std::move(sealed_.front());
    sealed_.pop_front();
    for (const Output& output : sealed.outputs) left_(output, sealed.id);
  }
  return {};
}

void SimGate::discard() {
  sealed_.clear();
  current_.clear();
  late_.reset();
  holding_ = true;
}

Status SimGate::open() {
  holding_ = false;
  for (const Sealed& sealed : sealed_)
    for (const Output& output : sealed.outputs) left_(output, std::nullopt);
  for (const Output& output : current_) left_(output, std::nullopt);
  sealed_.clear();
  current_.clear();
  return {};
}

}  // namespace libft::sim
