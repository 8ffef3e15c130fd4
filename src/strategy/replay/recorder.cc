// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/recorder.h"

#include <utility>

#include "base/assert.h"

namespace libft::replay {

Recorder::Recorder(DeterministicGuest& guest, InputAt input_at)
    : guest_(guest), input_at_(input_at) {
  guest_.set_input_sink([this](Position at, const GuestInput& input) { record(at, input); });
}

Recorder::~Recorder() {
  guest_.set_input_at(InputAt::any_position);
  guest_.set_input_sink({});
}

void Recorder::record(Position at, const GuestInput& input) {
  const std::lock_guard lock(mutex_);
  wire::append_input(coded_, newest_input_, at, input);
  newest_input_ = at;
  ++inputs_;
}

Status Recorder::begin(EpochId base) {
  guest_.set_input_at(input_at_);
  return guest_.mark(WithHash::no, [&](const Mark& here) {
    const std::lock_guard lock(mutex_);
    coded_.clear();
    inputs_ = 0;
    from_ = newest_input_ = here.at;
    base_ = base;
    kept_.clear();
    begun_ = true;
  });
}

Result<std::shared_ptr<const wire::LogEpoch>> Recorder::cut(const CutOrder& order) {
  FT_ASSERT(begun_);
  auto epoch = std::make_shared<wire::LogEpoch>();
  epoch->id = order.id;
  epoch->base = base_;
  epoch->coded.reserve(spare_);
  wire::LogMark& mark = epoch->mark;
  FT_TRY(guest_.mark(order.hash, [&](const Mark& here) {
    const std::lock_guard lock(mutex_);
    std::swap(coded_, epoch->coded);
    mark.inputs = std::exchange(inputs_, 0);
    mark.until = newest_input_ = here.at;
    mark.hash = here.hash;
    mark.said = here.said;
  }));
  mark.from = from_;
  mark.bytes = epoch->coded.size();
  mark.guest_ended = order.guest_ended;
  mark.guest_paused = order.guest_paused;
  mark.released = order.released;
  spare_ = mark.bytes + mark.bytes / 4;
  from_ = mark.until;
  base_ = order.id;
  kept_.push_back(epoch);
  return std::shared_ptr<const wire::LogEpoch>(std::move(epoch));
}

void Recorder::acknowledged(EpochId id) {
  while (!kept_.empty() && kept_.front()->id <= id) kept_.pop_front();
}

std::vector<std::shared_ptr<const wire::LogEpoch>> Recorder::since(EpochId newest) const {
  std::vector<std::shared_ptr<const wire::LogEpoch>> lacking;
  for (const auto& epoch : kept_)
    if (epoch->id > newest) lacking.push_back(epoch);
  return lacking;
}

std::size_t Recorder::bytes() const {
  std::size_t bytes = 0;
  for (const auto& epoch : kept_) bytes += epoch->coded.size();
  const std::lock_guard lock(mutex_);
  return bytes + coded_.size();
}

}  // namespace libft::replay
