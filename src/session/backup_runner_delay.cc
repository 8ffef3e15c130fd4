// SPDX-License-Identifier: LGPL-2.1-or-later
// The BackupRunner that executes late on purpose (SessionOptions::follow_delay): logs are
// acknowledged when they are here, and wait for their time. A take-over waits for no time.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "session/backup_runner.h"
#include "session/strategy.h"

namespace libft::session {

// Whether this backup can do what it was asked to do of its own, under what the primary wants.
Status BackupRunner::can_follow(const wire::Welcome& welcome) const {
  const Strategy strategy = strategy_of(welcome.features);
  if (context_.parts.check && !is_followed(strategy))
    return Status(Code::unsupported,
                  fmt::format("this backup has a check to make, and under {} it executes nothing "
                              "that could be checked: protect the guest with replay or lockstep, "
                              "or stand by without a check",
                              to_string(strategy)));
  if (!is_late()) return {};
  if (strategy != Strategy::replay)
    return Status(
        Code::unsupported,
        fmt::format("this backup is to execute late, and under {} {}: protect the guest "
                    "with replay, or stand by without a delay",
                    to_string(strategy),
                    is_followed(strategy) ? "output would wait for it" : "it executes nothing"));
  if ((welcome.features & wire::feature::delays) == 0)
    return Status(Code::unsupported,
                  "this backup is to execute late, and its primary's libft would slow the guest "
                  "for that: install the same release on both hosts, or stand by without a delay");
  return {};
}

std::optional<Time> BackupRunner::wake_at() const {
  if (in_doubt()) return std::nullopt;  // Nothing is due before the vote.
  const auto at = core_.wake_at();
  const auto due = delay_ && !follow_->full() ? delay_->due_at() : std::nullopt;
  if (at && due) return std::min(*at, *due);
  return at ? at : due;
}

void BackupRunner::keep_until_due(wire::LogEpoch log) {
  delay_->keep(context_.now(), std::move(log));
  if (!delay_->has_room() && !std::exchange(shortened_, true))
    context_.tell(
        LogLevel::warning, "delay_shortened",
        fmt::format("{} MiB of log wait, the most that there is room for: what is {:.1f} s "
                    "old is executed now; remedy: a shorter delay, or more room",
                    context_.options.delay_bytes_max >> 20,
                    to_ms(delay_->behind(context_.now())) / 1000),
        {});
  execute_due();
  say_followed();
}

void BackupRunner::execute_due() {
  if (!delay_) return;
  const Time now = context_.now();
  while (!follow_->full()) {
    auto log = delay_->take_due(now);
    if (!log) break;
    follow_->take(std::move(*log));
  }
  context_.statistics.update(
      [&](SessionStatus& s) { s.follow_lag_ms = to_ms(delay_->behind(now)); });
}

void BackupRunner::say_followed() {
  wire::Followed said{followed_};
  if (delay_) said.caught_up = delay_->caught_up();
  send(said, core_.generation());
}

Status BackupRunner::execute_rest() {
  if (delay_) {
    context_.tell(
        LogLevel::info, "executing_rest",
        fmt::format("what came in the last {:.1f} s", to_ms(delay_->behind(context_.now())) / 1000),
        {});
    for (auto& log : delay_->take_all()) follow_->take(std::move(log));
    delay_.reset();
  }
  return follow_->finish();
}

}  // namespace libft::session
