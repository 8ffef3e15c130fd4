// SPDX-License-Identifier: LGPL-2.1-or-later
// A PrimaryRunner that stands still for another process, and the one that goes on there.
#include <utility>

#include "session/primary_runner.h"
#include "session/shape.h"
#include "session/strategy.h"

namespace libft::session {

// Tracking is not begun anew: what was written since the last capture is still marked, and all of
// it belongs to the next one. Output stays held until the core has read the record.
Result<std::unique_ptr<PrimaryRunner>> PrimaryRunner::take_up(Context& context, Replica& replica,
                                                              const Held& held) {
  if (!replica.guest->info().tracking_stays)
    return failure(Code::unsupported,
                   "what this guest wrote meanwhile is not known: protect it anew");
  const OwnershipRecord record{held.generation, held.primary, {held.primary, held.backup}, false};
  std::unique_ptr<PrimaryRunner> runner(new PrimaryRunner(
      context, replica,
      core::Primary::held(held.primary, record, held.newest.epoch,
                          core_options(context.options, replica.gate->limits()), context.now())));
  FT_TRY(runner->prepare());
  FT_TRY(runner->prepare_to_replicate());
  runner->tracking_ = true;
  runner->owner_paused_ = held.guest_paused;
  runner->forward_input(held.newest.epoch.next());
  context.parts.guard->arm(context.options.detector.interval * context.options.detector.missed_max);
  return runner;
}

Status PrimaryRunner::can_hold() const {
  FT_TRY(core_.can_hold());
  if (holding_ || verification_ || change_)
    return Status(Code::busy, "a verification, a change of strategy or another hold is under way");
  if (following_ || context_.options.strategy != Strategy::checkpoint || context_.rewrites)
    return Status(
        Code::unsupported,
        "its strategy is not checkpoint, or its gate rewrites connections of the time when "
        "it was another: what that needs ends with this process");
  if (!replica_.guest->info().tracking_stays)
    return Status(Code::unsupported, "what the guest writes is found by this process alone");
  if ((peer_features_ & wire::feature::holds) == 0)
    return Status(Code::unsupported, "the backup's libft is older and would not wait");
  return {};
}

void PrimaryRunner::hold(Nanos at_most, HoldDone done) {
  if (Status may = can_hold(); !may) return done(failure(may.within("hold")));
  holding_ = Holding{std::move(done), context_.now() + at_most};
  const auto ms = std::chrono::duration_cast<Millis>(at_most).count();
  connection_->send(wire::encode(wire::Hold{static_cast<std::uint32_t>(ms)}, context_.parts.guest,
                                 core_.record().generation));
}

void PrimaryRunner::on_hold(const wire::Hold& hold) {
  const Time now = context_.now();
  if (!hold.answer && holding_) return;  // One after the other: it will ask again, or do without.
  if (!hold.answer) return perform(core_.on_hold(now, Millis{hold.at_most_ms}));
  if (!holding_ || std::exchange(holding_->agreed, true)) return;
  perform(core_.hold(now));
}

// Released is not yet out where a link was full: the gate's own memory ends with this process.
void PrimaryRunner::go_on_with_hold() {
  if (!holding_) return;
  if (holding_->agreed && !core_.holding())
    return end_hold(failure(Code::peer_lost, "hold: the backup or the guest did not stand by it"));
  if (holding_->stands && replica_.gate->statistics().packets_held == 0) return end_hold(held());
  if (context_.now() < holding_->until) return;
  perform(core_.let_go(context_.now()));
  end_hold(failure(Code::timeout, "hold: the backup did not answer, or acknowledge, in time"));
}

void PrimaryRunner::end_hold(Result<HeldSession> outcome) {
  const HoldDone done = std::move(std::exchange(holding_, std::nullopt)->done);
  done(std::move(outcome));
}

HeldSession PrimaryRunner::held() const {
  Held held;
  held.role = Held::Role::primary;
  held.primary = core_.self();
  held.backup = *core_.peer();
  held.generation = core_.record().generation;
  held.newest = core_.newest_released();
  held.guest_paused = owner_paused_;
  held.shape = shape_of(replica_.guest->info());
  return {encode(held, context_.parts.guest), !owner_paused_};
}

void PrimaryRunner::let_go() { perform(core_.let_go(context_.now())); }

}  // namespace libft::session
