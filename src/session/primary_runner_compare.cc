// SPDX-License-Identifier: LGPL-2.1-or-later
// The PrimaryRunner of a guest that the backup runs, too (strategy compare). Its epochs are
// checkpoints as ever; between two of them single frames leave when both have said the same.
#include <fmt/format.h>

#include "session/primary_runner.h"
#include "session/strategy.h"

namespace libft::session {

Status PrimaryRunner::can_compare() const {
  if (replica_.exact != nullptr)
    return Status(Code::unsupported,
                  "this guest can be executed to exact positions: use the strategy lockstep, which "
                  "compares everything that it says");
  if (replica_.compared != nullptr && replica_.input == nullptr)
    return Status(Code::invalid,
                  "under the strategy compare the backup's guest gets what comes in: let it be "
                  "redelivered (without --no-redeliver-input)");
  if (replica_.compared == nullptr)
    return missing_for_compare(replica_.guest->info().driver);
  return {};
}

// A backup that cannot run the guest is given plain checkpoints.
Strategy PrimaryRunner::strategy_with(std::uint64_t peer_features) const {
  const Strategy wanted = context_.options.strategy;
  if (wanted != Strategy::compare) return wanted;
  const bool both = (peer_features & wire::feature::compares) != 0 && !context_.rewrites;
  return both ? wanted : Strategy::checkpoint;
}

void PrimaryRunner::tell_not_compared() {
  if (strategy_with(peer_features_) == context_.options.strategy) return;
  const std::string why =
      context_.rewrites
          ? "it followed another host before, and its gate rewrites connections that were opened "
            "then; these do not survive another take-over"
          : "the backup cannot run the guest beside its image: its own log says why, or it has an "
            "older release";
  context_.statistics.update([&](SessionStatus& s) { s.compare.state = "checkpoints: " + why; });
  context_.tell(LogLevel::warning, "not_compared", "plain checkpoints: " + why, {});
}

// Output begins to be held, or is, and is to be compared from now on. What came in is forwarded in
// one way only.
void PrimaryRunner::begin_comparison() {
  listening_ = nullptr;
  comparison_.reset();
  if (strategy_with(peer_features_) != Strategy::compare) return;
  comparison_ = std::make_unique<Comparison>(
      replica_, context_.parts.clock, context_.parts.guest, context_.options,
      Comparison::Sinks{.copies_wait = own_posting_.later([this] { send_copies(); }),
                        .checkpoint = own_posting_.later([this] { on_checkpoint_wanted(); }),
                        .deadline_set = own_posting_.later([] {})});  // The session's thread looks.
  listening_ = comparison_.get();
}

// Not while a swap is out: what is let out by comparison rests on a record that is definite.
bool PrimaryRunner::may_run_from(const core::TakeCheckpoint& order) const {
  return comparison_ && context_.options.strategy == Strategy::compare && connection_ &&
         core_.state() == core::PrimaryState::protecting && !order.stay_paused &&
         !order.guest_ended && !owner_paused_ && !change_ && comparison_->worth_it();
}

// Seldom while both say the same; as the checkpoint strategy does else.
void PrimaryRunner::keep_rhythm() {
  if (!comparison_) return;
  auto rhythm = core_options(context_.options, replica_.gate->limits());
  if (!comparison_->rests()) {
    rhythm.interval.kind = core::IntervalOptions::Kind::adaptive;  // At once when it is needed.
    rhythm.interval.interval = rhythm.interval.idle = context_.options.compare_interval;
  }
  core_.set_rhythm(rhythm.interval, rhythm.inflight_max);
}

void PrimaryRunner::rest_comparison() {
  if (!comparison_ || comparison_->rests()) return;
  comparison_->rest();
  keep_rhythm();
}

void PrimaryRunner::watch_comparison() {
  if (!comparison_ || comparison_->tick()) return;
  keep_rhythm();
  context_.tell(LogLevel::info, "not_followed",
                fmt::format("the backup's guest does not run {:.0f} ms after its checkpoint",
                            to_ms(context_.options.reload_max)),
                {});
  perform(core_.on_output_waiting(context_.now()));
}

void PrimaryRunner::send_copies() {
  if (!comparison_) return;
  auto frames = comparison_->take_copies();
  if (!connection_ || frames.empty()) return;
  connection_->send_beside([frames = std::move(frames)](Transport& transport) {
    const std::span<const std::byte> piece(frames);
    return transport.send({&piece, 1});
  });
}

// While it is compared, what the guest says waits for the backup's guest first.
void PrimaryRunner::on_output_waiting() {
  if (comparison_ && !comparison_->rests()) return;
  perform(core_.on_output_waiting(context_.now()));
}

void PrimaryRunner::on_checkpoint_wanted() {
  if (comparison_ && comparison_->checkpoint_wanted())
    perform(core_.on_output_waiting(context_.now()));
}

void PrimaryRunner::note_reload(const std::optional<Nanos>& took) {
  if (took) context_.statistics.add_reload(*took);
}

}  // namespace libft::session
