// SPDX-License-Identifier: LGPL-2.1-or-later
// A PrimaryRunner goes over to another strategy while the guest runs protected: between two epochs,
// when everything before is acknowledged. Output waits for that, no longer. (FORMAT.md, "A change
// of strategy", has what the backup makes of it.)
#include <fmt/format.h>

#include <utility>

#include "session/primary_runner.h"
#include "session/strategy.h"

namespace libft::session {
namespace {

// What the memory of a backup that executes came to becomes the backup's image only by way of
// hybrid.
Strategy next_towards(Strategy from, Strategy to) {
  return is_followed(from) && to == Strategy::checkpoint ? Strategy::hybrid : to;
}

}  // namespace

void PrimaryRunner::change_strategy(Strategy to, ChangeDone done) {
  if (is_logged(to) && replica_.exact == nullptr)
    return done(failure(missing_for_replay(replica_.guest->info().driver)));
  if (to == Strategy::compare) {
    if (const Status status = can_compare(); !status) return done(failure(status));
    if (context_.rewrites)
      return done(failure(Code::refused,
                          "this guest followed another host before, and its gate rewrites "
                          "connections that were opened then: it cannot be compared"));
  }
  if (change_ || holding_)
    return done(failure(Code::refused, "another change of strategy, or a hold, is under way"));
  const auto needs = features_of(to) | wire::feature::changes;
  if (core_.peer() && (peer_features_ & needs) != needs)
    return done(failure(Code::unsupported,
                        "the backup's libft cannot change to that strategy: install the same "
                        "release on both hosts"));
  if (core_.peer() && !core_.is_protected())
    return done(failure(Code::refused, "the guest is being protected: wait for `protected`"));
  change_ = Changing{to, std::move(done), context_.now(), false, std::nullopt};
  if (!core_.peer()) adopt_strategy(to);
  if (context_.options.strategy == to) return end_change(std::string());
  if (hybrid()) following_->rebased_at = Time{};  // What the backup must execute is short then.
  perform(core_.on_output_waiting(context_.now()));
}

// Before an order to end an epoch is carried out. True: it waits until nothing is in flight.
bool PrimaryRunner::change_first(const core::TakeCheckpoint& order) {
  if (!change_ || !connection_ || !core_.is_protected() || order.stay_paused || order.guest_ended)
    return false;
  if (hybrid() && (following_->rebase || following_->rebased_at < change_->asked_at)) return false;
  if (is_followed(context_.options.strategy) && !change_->cut_next) {
    forget_written();
    return false;
  }
  if (!drained()) {
    change_->waits = order;
    return true;
  }
  take_step(order);
  return false;
}

// What was written so far is in the memory that the backup's execution comes to. Before the last
// cut of the old strategy: what is written behind that cut is then in the next set for certain.
void PrimaryRunner::forget_written() {
  PageSet written;
  if (const Status status = replica_.guest->take_written(written); !status)
    return end_change(failure(status.within("find written pages")));
  following_->hashed_at = Time{};  // What becomes an image is compared first.
  change_->cut_next = true;
}

void PrimaryRunner::take_step(const core::TakeCheckpoint& order) {
  const Strategy from = context_.options.strategy, to = next_towards(from, change_->to);
  connection_->send(
      wire::encode(wire::Change{features_of(to)}, context_.parts.guest, core_.record().generation));
  if (!is_logged(to) && !is_logged(from)) {
    if (to == Strategy::compare) inputs_.reset();
  } else if (!is_logged(to)) {
    image_before_ = {order.id.epoch, encoder_->base()};
    end_log();
  } else if (!is_logged(from)) {
    inputs_.reset();
    following_ = std::make_unique<Following>(*replica_.exact, context_.options);
  } else if (is_followed(from) && to == Strategy::hybrid) {
    encoder_->adopt(following_->recorder.newest());
    following_->rebase = {.id = following_->recorder.newest(), .pages = {}, .adopted = true};
    following_->rebased_at = context_.now();
  }
  if (is_followed(from) && verification_ && verification_->id.epoch.value != 0)
    end_verification(failure(Code::cancelled, "the strategy changed meanwhile"));
  adopt_strategy(to);
  if (!comparison_) begin_comparison();
  if (!is_logged(to) && !comparison_) forward_input(order.id.epoch.next());
  if (to == change_->to) end_change(std::string());
}

void PrimaryRunner::adopt_strategy(Strategy to) {
  context_.options.strategy = to;
  const auto rhythm = core_options(context_.options, replica_.gate->limits());
  core_.set_rhythm(rhythm.interval, rhythm.inflight_max);
  context_.statistics.update([&](SessionStatus& s) { s.strategy = to_string(to); });
  context_.tell(LogLevel::info, "strategy", std::string(to_string(to)), {});
}

// Logs that were lost with a connection come again, and are acknowledged; what was lost of a
// checkpoint is covered by the next.
bool PrimaryRunner::drained() const {
  return core_.inflight() == 0 &&
         (!logging() || core_.newest_released().epoch >= core_.newest_captured());
}

// Nothing is in flight any more, or nobody is there who could acknowledge it.
void PrimaryRunner::go_on_with_change() {
  if (!change_ || !change_->waits || (connection_ && !drained())) return;
  const core::TakeCheckpoint order = *std::exchange(change_->waits, std::nullopt);
  if (connection_) return begin_checkpoint(order);
  perform(core_.on_capture_failed(context_.now(), order.id, "the backup's connection broke"));
}

void PrimaryRunner::end_change(Result<std::string> outcome) {
  auto change = std::exchange(change_, std::nullopt);
  if (outcome) outcome = fmt::format("strategy: {}", to_string(context_.options.strategy));
  change->done(std::move(outcome));
  if (change->waits)
    perform(core_.on_capture_failed(context_.now(), change->waits->id, "it waited for a change"));
}

}  // namespace libft::session
