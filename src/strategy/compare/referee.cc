// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/referee.h"

#include <utility>

namespace libft::compare {

Referee::Referee(ComparedGate& gate, InputTap& tap, const Clock& clock, const GuestId& guest,
                 const ComparatorOptions& options, Sinks sinks)
    : gate_(gate),
      tap_(tap),
      clock_(clock),
      sinks_(std::move(sinks)),
      comparator_(options),
      copies_(wire::FrameType::frames_in, guest) {
  gate_.set_judge([this](FrameNo number, unsigned nic, std::span<const std::byte> frame,
                         std::vector<FrameNo>& leave) { judge(number, nic, frame, leave); });
  tap_.set_input_sink(
      [this](std::span<const std::byte> frame, unsigned nic) { on_world(nic, frame); });
}

Referee::~Referee() {
  gate_.set_judge({});
  tap_.set_input_sink({});
}

void Referee::say(Reason reason) {
  if (reason != Reason::none) sinks_.checkpoint(reason);
}

// Only an earlier one needs somebody to wake: at a later one tick() looks anyway.
void Referee::watch_deadline() {
  const auto deadline = comparator_.deadline();
  const bool earlier = deadline && (!deadline_told_ || *deadline < *deadline_told_);
  if (earlier || !deadline) deadline_told_ = deadline;
  if (earlier) sinks_.deadline_set();
}

void Referee::judge(FrameNo number, unsigned nic, std::span<const std::byte> frame,
                    std::vector<FrameNo>& leave) {
  const std::scoped_lock lock(mutex_);
  const Verdict verdict = comparator_.on_primary(number, nic, frame, clock_.now());
  leave.insert(leave.end(), verdict.release.begin(), verdict.release.end());
  say(verdict.checkpoint);
  watch_deadline();
}

void Referee::on_world(unsigned nic, std::span<const std::byte> frame) {
  const std::scoped_lock lock(mutex_);
  comparator_.on_world(nic, frame);
  if (copies_.bytes() + frame.size() > kCopiesBytesMax || nic > 255) return;
  copies_.add(came_after_, {nic, frame});
  if (!std::exchange(told_, true)) sinks_.copies_wait();
}

Status Referee::on_frames_out(const wire::Frame& frame) {
  FT_ASSIGN(const auto copies, wire::decode_copies(frame));
  std::vector<FrameNo> leave;
  {
    const std::scoped_lock lock(mutex_);
    if (from_ != frame.header.id) return {};
    for (const wire::FrameCopy& copy : copies) {
      const Verdict verdict = comparator_.on_follower(copy.nic, copy.bytes);
      leave.insert(leave.end(), verdict.release.begin(), verdict.release.end());
      say(verdict.checkpoint);
    }
    watch_deadline();
  }
  if (!leave.empty()) gate_.let_out(leave);
  return {};
}

void Referee::begin_checkpoint(EpochId id) {
  const std::scoped_lock lock(mutex_);
  came_after_ = id;
}

void Referee::captured(EpochId id, Then then) {
  const std::scoped_lock lock(mutex_);
  comparator_.captured();
  from_ = id;
  if (then == Then::nobody) {
    comparator_.rest();
    from_.reset();
  }
  watch_deadline();
}

void Referee::follower_runs(EpochId id) {
  std::vector<FrameNo> leave;
  {
    const std::scoped_lock lock(mutex_);
    if (from_ != id) return;
    const Verdict verdict = comparator_.follower_runs(clock_.now());
    leave = verdict.release;
    say(verdict.checkpoint);
    watch_deadline();
  }
  if (!leave.empty()) gate_.let_out(leave);
}

void Referee::rest() {
  const std::scoped_lock lock(mutex_);
  comparator_.rest();
  from_.reset();
  watch_deadline();
}

bool Referee::compares() const {
  const std::scoped_lock lock(mutex_);
  return from_.has_value();
}

std::optional<Time> Referee::deadline() const {
  const std::scoped_lock lock(mutex_);
  return comparator_.deadline();
}

void Referee::tick() {
  const std::scoped_lock lock(mutex_);
  say(comparator_.on_time(clock_.now()).checkpoint);
  deadline_told_ = comparator_.deadline();
}

std::vector<std::byte> Referee::take_copies() {
  const std::scoped_lock lock(mutex_);
  told_ = false;
  return copies_.take();
}

ComparatorStatistics Referee::statistics() const {
  const std::scoped_lock lock(mutex_);
  return comparator_.statistics();
}

}  // namespace libft::compare
