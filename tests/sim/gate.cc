// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/gate.h"

#include <algorithm>

namespace libft::sim {

namespace {

// A packet's is of a protocol that nobody knows.
FrameBytes frame_of(const Output& output) {
  if (output.said) return output.said->frame;
  FrameBytes frame;
  test::put_be(frame, 0x525400123456, 6);
  test::put_be(frame, 0x020000000001, 6);
  test::put_be(frame, 0x88b5, 2);
  const auto bytes = std::as_bytes(std::span(&output.packet, 1));
  frame.insert(frame.end(), bytes.begin(), bytes.end());
  return frame;
}

}  // namespace

void SimGate::leave(const Output& output, Leave how, EpochId id) {
  FrameBytes frame = frame_of(output);
  if (rewrite_.to_world) rewrite_.to_world(0, frame);
  left_(output, frame, how, id);
}

void SimGate::send(Output output) {
  if (follower_) {
    FrameBytes frame = frame_of(output);
    if (*follower_) (*follower_)(0, frame);
    if (rewrite_.to_world) rewrite_.to_world(0, frame);
    return;
  }
  if (!holding_) return leave(output, Leave::by_open_gate);
  const bool first = current_.empty();
  const FrameNo number = newest_ = FrameNo{newest_.value + 1};
  current_.push_back({number, std::move(output)});
  std::vector<FrameNo> out;
  if (judge_) judge_(number, 0, frame_of(current_.back().output), out);
  if (judge_ && lets_all_out) out = {number};
  let_out(out);
  if (first && waiting_ && !current_.empty()) waiting_();
}

void SimGate::let_out(std::span<const FrameNo> frames) {
  for (const FrameNo number : frames) {
    const auto take = [&](std::vector<Held>& held) {
      const auto found = std::ranges::find(held, number, &Held::number);
      if (found == held.end()) return false;
      const Output output = std::move(found->output);
      held.erase(found);
      leave(output, Leave::by_comparison);
      return true;
    };
    if (!take(current_))
      for (Sealed& sealed : sealed_)
        if (take(sealed.outputs)) break;
  }
}

void SimGate::follow(FollowerSink sink) { follower_ = std::move(sink); }

void SimGate::on_world(const FrameBytes& frame) {
  if (input_sink_) input_sink_(frame, 0);
  (void)inject_input(0, frame);
}

Status SimGate::inject_input(unsigned nic, std::span<const std::byte> frame) {
  FrameBytes own(frame.begin(), frame.end());
  if (rewrite_.to_guest) rewrite_.to_guest(nic, own);
  if (to_guest) to_guest(own);
  return {};
}

Status SimGate::hold() {
  follower_.reset();
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
    for (const Held& held : sealed.outputs) leave(held.output, Leave::by_epoch, sealed.id);
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
  follower_.reset();
  holding_ = false;
  for (const Sealed& sealed : sealed_)
    for (const Held& held : sealed.outputs) leave(held.output, Leave::by_open_gate);
  for (const Held& held : current_) leave(held.output, Leave::by_open_gate);
  sealed_.clear();
  current_.clear();
  return {};
}

}  // namespace libft::sim
