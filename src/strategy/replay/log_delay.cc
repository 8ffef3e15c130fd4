// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/log_delay.h"

#include <algorithm>
#include <utility>

namespace libft::replay {
namespace {

// An epoch with nothing in it costs memory too, and most are such.
std::size_t bytes_of(const wire::LogEpoch& log) { return sizeof log + log.coded.size(); }

}  // namespace

void LogDelay::keep(Time now, wire::LogEpoch log) {
  newest_ = log.id;
  bytes_ += bytes_of(log);
  unexecuted_.push_back({log.id, now});
  kept_.push_back(std::move(log));
}

std::optional<Time> LogDelay::due_at() const {
  if (kept_.empty()) return std::nullopt;
  const Time came = unexecuted_[unexecuted_.size() - kept_.size()].at;
  return has_room() ? came + delay_ : came;
}

std::optional<wire::LogEpoch> LogDelay::take_due(Time now) {
  const auto due = due_at();
  if (!due || *due > now) return std::nullopt;
  bytes_ -= bytes_of(kept_.front());
  wire::LogEpoch log = std::move(kept_.front());
  kept_.pop_front();
  return log;
}

std::deque<wire::LogEpoch> LogDelay::take_all() {
  bytes_ = 0;
  return std::exchange(kept_, {});
}

void LogDelay::executed(EpochId id) {
  while (!unexecuted_.empty() && unexecuted_.front().id <= id) unexecuted_.pop_front();
}

EpochId LogDelay::caught_up() const {
  if (unexecuted_.empty()) return newest_;
  // This moment is, for the delayed execution, as late as that for one without a delay.
  const Time until = unexecuted_.front().at + delay_;
  const auto later = std::ranges::upper_bound(unexecuted_, until, {}, &Came::at);
  return std::prev(later)->id;
}

Nanos LogDelay::behind(Time now) const {
  return unexecuted_.empty() ? Nanos{0} : now - unexecuted_.front().at;
}

}  // namespace libft::replay
