// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/comparison.h"

#include <algorithm>
#include <utility>

namespace libft::session {
namespace {

compare::ComparatorOptions comparator_options(const SessionOptions& options) {
  compare::ComparatorOptions comparator;
  comparator.answer_max = options.answer_max;
  comparator.acknowledgement_max = options.acknowledgement_max;
  return comparator;
}

}  // namespace

Comparison::Comparison(const Replica& replica, const Clock& clock, const GuestId& guest,
                       const SessionOptions& options, Sinks sinks)
    : clock_(clock),
      reload_max_(options.reload_max),
      referee_(*replica.compared, *replica.input, clock, guest, comparator_options(options),
               {.copies_wait = std::move(sinks.copies_wait),
                .checkpoint =
                    [this, tell = std::move(sinks.checkpoint)](compare::Reason) {
                      wanted_ = true;
                      tell();
                    },
                .deadline_set = std::move(sinks.deadline_set)}) {}

// Whether the run was worth it decides on the next one.
void Comparison::begin_checkpoint(EpochId id) {
  judge_run();
  referee_.begin_checkpoint(id);
}

// Whatever was wanted, this checkpoint is it.
void Comparison::captured(EpochId id, compare::Referee::Then then) {
  end_run();
  referee_.captured(id, then);
  wanted_ = false;
  if (then == compare::Referee::Then::nobody) return;
  from_ = id;
  captured_at_ = clock_.now();
  at_capture_ = referee_.statistics();
  economy_.captured(captured_at_);
}

std::optional<Nanos> Comparison::on_followed(EpochId id) {
  followed_ = id;
  return begin_when_ready();
}

std::optional<Nanos> Comparison::on_released(EpochId through) {
  released_ = through;
  return begin_when_ready();
}

// Nothing is let out before what the checkpoint covers.
std::optional<Nanos> Comparison::begin_when_ready() {
  if (!from_ || comparing_ || followed_ != from_ || released_ < *from_) return std::nullopt;
  comparing_ = true;
  const Time now = clock_.now();
  economy_.runs(now);
  referee_.follower_runs(*from_);
  return now - captured_at_;
}

void Comparison::end_run() {
  if (!from_) return;
  judge_run();
  from_.reset();
  comparing_ = false;
}

// Once.
void Comparison::judge_run() {
  if (!from_) return;
  const auto seen = referee_.statistics();
  const bool needed = seen.checkpoints != at_capture_.checkpoints;
  economy_.ended(clock_.now(), needed && seen.released == at_capture_.released);
}

void Comparison::rest() {
  if (!from_) return;
  end_run();
  referee_.rest();
}

std::optional<Time> Comparison::wake_at() const {
  if (!from_) return std::nullopt;
  return comparing_ ? referee_.deadline() : std::optional<Time>(captured_at_ + reload_max_);
}

bool Comparison::tick() {
  if (!from_) return true;
  if (comparing_) {
    referee_.tick();
  } else if (clock_.now() - captured_at_ >= reload_max_) {
    rest();
    return false;
  }
  return true;
}

CompareStatus Comparison::status() const {
  CompareStatus status;
  status.state = comparing_         ? "comparing"
                 : from_            ? "loading"
                 : economy_.rests() ? "checkpoints: comparing did not pay, and is tried again"
                                    : "checkpoints: until the next one";
  const auto seen = referee_.statistics();
  status.frames_compared = seen.released;
  status.frames_by_checkpoint = seen.by_checkpoint;
  const auto count = [&](compare::Reason reason) { return seen.checkpoints[std::size_t(reason)]; };
  status.differences = count(compare::Reason::content_differs);
  status.timeouts = count(compare::Reason::no_answer);
  status.not_understood = count(compare::Reason::not_understood);
  status.limits = count(compare::Reason::limit);
  status.runs = economy_.runs();
  status.runs_in_vain = economy_.in_vain();
  return status;
}

}  // namespace libft::session
