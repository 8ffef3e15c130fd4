// SPDX-License-Identifier: LGPL-2.1-or-later
// The epochs of a PrimaryRunner whose guest is replayed: after the checkpoint that completes the
// backup's image each epoch is a log, cut while the guest runs. Nothing stands still for it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "session/primary_runner.h"
#include "strategy/replay/pace.h"

namespace libft::session {

// REQUIRES: the guest stands where checkpoint `base` was taken.
Status PrimaryRunner::begin_log(EpochId base) {
  following_->begun_at = base.epoch;
  following_->ahead.clear();
  following_->rebase.reset();
  following_->hashed_at = following_->rebased_at = context_.now();
  return following_->recorder.begin(base);
}

void PrimaryRunner::cut_log(const core::TakeCheckpoint& order) {
  const Time begun = context_.now();
  Cut cut;
  const Status status = rebase_due(order) ? capture_and_cut(order, cut) : seal_and_cut(order, cut);
  if (!status) {
    perform(core_.on_capture_failed(begun, order.id, status.to_string()));
    return;
  }
  const Time now = context_.now();
  Pending pending;
  pending.log = true;
  pending.sealed_at = now;
  pending.record = {.id = order.id, .paused_at = begun, .pages = 0, .encoded = {}, .times = {}};
  pending.record.times.capture = now - begun;
  if (cut.image) pending.record.times = cut.image->times;
  if (cut.image) pending.record.pages = cut.image->pages.pages();
  if (paused_before_ != Time{}) pending.record.interval = begun - paused_before_;
  const core::LastCheckpoint last{.resumed_at = now, .ran = pending.record.interval};
  paused_before_ = begun;
  pending_.push_back(std::move(pending));
  following_->ahead.push_back({order.id, now, cut.log->coded.size()});
  context_.statistics.update([](SessionStatus& s) { ++s.epochs; });
  send_log(std::move(cut.log));
  if (cut.image) send_rebase(cut.image);
  perform(core_.on_captured(now, order.id, last));
}

// The gate first: what it has sealed left the guest before the log's end, whatever the guest does
// meanwhile.
Status PrimaryRunner::seal_and_cut(const core::TakeCheckpoint& order, Cut& cut) {
  const bool stands = order.stay_paused && !order.guest_ended;
  if (stands) forward_input(order.id.epoch.next());
  if (stands) FT_TRY(replica_.guest->pause().within("pause"));
  const bool verify = verification_ && verification_->id.epoch.value == 0;
  const bool hash = !hybrid() && (verify || context_.now() - following_->hashed_at >=
                                                context_.options.hash_interval);
  Status status = replica_.gate->seal(order.id).within("seal");
  if (status) {
    auto log = cut_recorder(order, hash ? WithHash::yes : WithHash::no);
    status = log ? Status() : log.error();
    if (log) cut.log = std::move(*log);
  }
  if (!status) {
    if (stands) let_run_again();
    return status;
  }
  if (hash) following_->hashed_at = context_.now();
  if (verify && hash) verification_->id = order.id;
  return {};
}

Result<std::shared_ptr<const wire::LogEpoch>> PrimaryRunner::cut_recorder(
    const core::TakeCheckpoint& order, WithHash hash) {
  auto log = following_->recorder.cut({.id = order.id,
                                       .hash = hash,
                                       .guest_ended = order.guest_ended,
                                       .guest_paused = owner_paused_,
                                       .released = core_.newest_released()});
  if (!log) return failure(log.error().within("cut the log"));
  return log;
}

// What comes in once the guest stands is given to the backup, where it goes on. (While it runs,
// what it takes is in the log.)
void PrimaryRunner::forward_input(Epoch epoch) {
  if (!replica_.input || !context_.options.redeliver_input || inputs_) return;
  inputs_ = std::make_unique<InputForwarder>(*replica_.input,
                                             own_posting_.later([this] { send_inputs(); }));
  inputs_->set_epoch(epoch);
}

void PrimaryRunner::send_log(std::shared_ptr<const wire::LogEpoch> log) {
  if (!connection_) return;  // It is kept, and sent when the backup is here again.
  connection_->send_beside([this, log = std::move(log),
                            sent = posting_.later<EpochId, std::size_t, Nanos>(
                                [this](EpochId id, std::size_t bytes, Nanos took) {
                                  on_log_sent(id, bytes, took);
                                })](Transport& transport) -> Status {
    const Time begun = context_.now();
    const auto frames = wire::encode_log(context_.parts.guest, *log);
    const std::span<const std::byte> piece(frames);
    FT_TRY(transport.send({&piece, 1}));
    sent(log->id, frames.size(), context_.now() - begun);
    return {};
  });
}

void PrimaryRunner::on_log_sent(EpochId id, std::size_t bytes, Nanos took) {
  context_.statistics.update([&](SessionStatus& s) { s.bytes_sent += bytes; });
  for (auto& pending : pending_) {
    if (pending.record.id != id) continue;
    pending.record.encoded.bytes = bytes;
    pending.record.times.replicate = took;
    pending.sent_at = context_.now();
    pending.sent = true;
  }
}

void PrimaryRunner::on_followed(const wire::Followed& followed) {
  if (comparison_) note_reload(comparison_->on_followed(followed.id));
  if (!following_) return;
  const EpochId id = followed.id;
  const EpochId caught_up = followed.caught_up.value_or(id);
  auto& ahead = following_->ahead;
  while (!ahead.empty() && ahead.front().id <= caught_up) ahead.pop_front();
  keep_pace();
  if (hybrid()) return on_rebased(id);
  if (!verification_ || verification_->id.epoch.value == 0 || verification_->id > id) return;
  end_verification(fmt::format("epoch {}: the backup executed it to the same state",
                               to_string(verification_->id)));
}

// A guest whose follower lags is slowed, so that a promotion has little left to execute. An image
// is an interval old before the next one begins to travel: that is no lag.
void PrimaryRunner::keep_pace() {
  const auto& ahead = following_->ahead;
  const Nanos lag = ahead.empty() ? Nanos{0} : context_.now() - ahead.front().cut_at;
  const Nanos bound = hybrid() ? 4 * context_.options.rebase_interval : context_.options.follow_max;
  context_.statistics.update([&](SessionStatus& s) { s.follow_lag_ms = to_ms(lag); });
  const unsigned pace = replay::pace(lag, bound);
  if (pace == following_->pace) return;
  replica_.exact->set_pace(pace);
  following_->pace = pace;
}

// The log of a backup that does not acknowledge grows; the machine drops such a backup after a
// while, and this does when memory is short before.
void PrimaryRunner::watch_log() {
  keep_pace();
  std::size_t bytes = following_->recorder.bytes(), since_image = 0;
  if (hybrid())
    for (const auto& epoch : following_->ahead) since_image += epoch.bytes;
  if (std::max(bytes, since_image) < context_.options.log_bytes_max) return;
  const auto why = fmt::format("{} MiB of log are not acknowledged, {} MiB not in the image",
                               bytes >> 20, since_image >> 20);
  context_.tell(LogLevel::warning, "log_full", why, {});
  disconnect();
  perform(core_.on_suspected(context_.now(), why));
}

void PrimaryRunner::end_log() {
  if (!following_) return;
  replica_.exact->set_pace(100);
  following_.reset();
}

}  // namespace libft::session
