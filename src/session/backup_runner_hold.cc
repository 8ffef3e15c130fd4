// SPDX-License-Identifier: LGPL-2.1-or-later
// A BackupRunner that stands still for another process, and the one that goes on there.
#include <utility>

#include "session/backup_runner.h"
#include "session/shape.h"

namespace libft::session {

Result<std::unique_ptr<BackupRunner>> BackupRunner::take_up(Context& context, Replica& replica,
                                                            Promoted promoted, Held held) {
  FT_ASSIGN(replica, context.parts.make_standby(info_of(held.shape)));
  FT_TRY(replica.guest->accepts(info_of(held.shape)));
  std::unique_ptr<BackupRunner> runner(
      new BackupRunner(context, replica, std::move(promoted), held.backup));
  runner->core_ = core::Backup::held(
      held.backup, {held.primary, held.generation, held.newest, held.guest_paused},
      core_options(context), context.now());
  runner->assembler_ = std::make_unique<checkpoint::EpochAssembler>(
      context.parts.guest, replica.guest->info(), context.parts.arena);
  runner->assembler_->take_over(held.newest, std::move(held.state));
  replica.guest->set_event_sink(runner->posting_.later<GuestEvent>(
      [raw = runner.get()](const GuestEvent& event) { raw->on_guest_event(event); }));
  runner->connect();
  runner->publish();
  return runner;
}

Status BackupRunner::can_hold() const {
  FT_TRY(core_.can_hold());
  if (holding_ || trial_ || checking_)
    return Status(Code::busy, "a trial, a verification or another hold is under way");
  if (strategy_ != Strategy::checkpoint || speculates_)
    return Status(
        Code::unsupported,
        "its strategy is, or was, another than checkpoint: what that needs ends with this process");
  if ((features_ & wire::feature::holds) == 0)
    return Status(Code::unsupported, "the primary's libft is older and would not wait");
  return {};
}

void BackupRunner::hold(Nanos at_most, HoldDone done) {
  if (Status may = can_hold(); !may) return done(failure(may.within("hold")));
  holding_ = Holding{std::move(done), context_.now() + at_most};
  const auto ms = std::chrono::duration_cast<Millis>(at_most).count();
  send(wire::Hold{static_cast<std::uint32_t>(ms)}, core_.generation());
}

// From here on nothing more is acknowledged, nor applied: the image is what was handed over.
void BackupRunner::on_hold(const wire::Hold& hold) {
  if (!hold.answer) return bear_silence(Millis{hold.at_most_ms});
  if (!holding_) return;
  if (Status still = core_.can_hold(); !still) return end_hold(failure(still.within("hold")));
  stands_ = true;
  end_hold(held());
}

// Output waits until the primary is found again.
void BackupRunner::bear_silence(Nanos at_most) {
  if (holding_) end_hold(failure(Code::busy, "hold: the primary stands still itself"));
  perform(core_.on_hold(context_.now(), at_most));
  if (core_.bears_silence(context_.now())) connector_->hurry(at_most);
}

void BackupRunner::go_on_with_hold() {
  if (!holding_ || (connected_ && context_.now() < holding_->until)) return;
  end_hold(failure(Code::timeout, "hold: the primary did not answer in time"));
}

void BackupRunner::end_hold(Result<HeldSession> outcome) {
  const HoldDone done = std::move(std::exchange(holding_, std::nullopt)->done);
  done(std::move(outcome));
}

HeldSession BackupRunner::held() const {
  const core::Backup::Image image = core_.image();
  const auto state = assembler_->state();
  Held held;
  held.role = Held::Role::backup;
  held.primary = image.primary;
  held.backup = core_.self();
  held.generation = image.generation;
  held.newest = image.newest;
  held.guest_paused = image.guest_paused;
  held.shape = shape_of(replica_.guest->info());
  held.state.assign(state.begin(), state.end());
  return {encode(held, context_.parts.guest), false};
}

void BackupRunner::let_go() {
  stands_ = false;
  handle_waiting();
}

}  // namespace libft::session
