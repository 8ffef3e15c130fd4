// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/primary_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "os/memory_free.h"
#include "session/reference_limit.h"
#include "session/strategy.h"

namespace libft::session {
namespace {

// A log is cut while the guest runs: often, and many may be under way.
constexpr Nanos kLogFloor = std::chrono::microseconds{200};
constexpr Nanos kLogIdle = Millis{10};
constexpr std::uint32_t kLogsInflight = 32;

}  // namespace

core::PrimaryOptions core_options(const SessionOptions& options, const GateLimits& gate) {
  core::PrimaryOptions core;
  core.interval.kind =
      options.adaptive ? core::IntervalOptions::Kind::adaptive : core::IntervalOptions::Kind::fixed;
  core.interval.interval = options.interval;
  core.interval.floor = options.floor;
  core.interval.idle = options.idle;
  core.inflight_max = options.inflight_max;
  core.epochs_held_max = gate.epochs_held_max;
  if (is_logged(options.strategy)) {
    core.interval.floor = kLogFloor;
    const bool by_epochs = options.input_epoch > Nanos{0};
    core.interval.interval = core.interval.idle =
        by_epochs ? std::min(options.input_epoch, kLogIdle) : kLogIdle;
    core.inflight_max = std::max(options.inflight_max, kLogsInflight);
  }
  core.stall_limit = options.detector.interval * options.detector.missed_max;
  return core;
}

Result<std::unique_ptr<PrimaryRunner>> PrimaryRunner::make(Context& context, Replica& replica,
                                                           Incarnation self, OwnershipRecord record,
                                                           Epoch next) {
  const auto options = core_options(context.options, replica.gate->limits());
  std::unique_ptr<PrimaryRunner> runner(new PrimaryRunner(
      context, replica,
      core::Primary(std::move(self), std::move(record), next, options, context.now())));
  FT_TRY(runner->prepare());
  FT_TRY(runner->open_gate());
  return runner;
}

PrimaryRunner::PrimaryRunner(Context& context, Replica& replica, core::Primary core)
    : context_(context),
      replica_(replica),
      core_(std::move(core)),
      posting_(context.mailbox),
      own_posting_(context.mailbox),
      detector_posting_(context.mailbox) {}

Status PrimaryRunner::prepare() {
  if (is_logged(context_.options.strategy) && replica_.exact == nullptr)
    return missing_for_replay(replica_.guest->info().driver);
  if (context_.options.strategy == Strategy::compare) FT_TRY(can_compare());
  replica_.gate->set_waiting_sink(own_posting_.later([this] { on_output_waiting(); }));
  replica_.guest->set_event_sink(
      own_posting_.later<GuestEvent>([this](const GuestEvent& event) { on_guest_event(event); }));
  forget_peer();
  publish();
  return {};
}

Status PrimaryRunner::open_gate() {
  context_.parts.guard->arm(Nanos{0});
  return replica_.gate->open();
}

std::uint64_t PrimaryRunner::reference_bytes_max() const {
  const GuestInfo& info = replica_.guest->info();
  const std::uint64_t guest = info.pages() * info.page_bytes;
  const std::uint64_t limit =
      reference_limit(context_.options.reference_bytes_max, guest, os::memory_bytes_free());
  if (limit < guest && limit != context_.options.reference_bytes_max) {
    context_.tell(LogLevel::warning, "reference_bounded",
                  fmt::format("{} MiB of the guest's {} are kept for delta coding, half of what "
                              "this host has available; other pages travel whole",
                              limit >> 20, guest >> 20),
                  {});
  }
  return limit;
}

// Memory for staging and reference is reserved when there is a backup: never during a take-over.
Status PrimaryRunner::prepare_to_replicate() {
  if (checkpointer_) return {};
  const auto& options = context_.options;
  FT_ASSIGN(checkpointer_,
            checkpoint::Checkpointer::make(*replica_.guest, *replica_.gate, context_.parts.arena,
                                           context_.parts.clock, options.inflight_max + 1,
                                           options.staging_bytes));
  encoder_ = std::make_unique<checkpoint::EpochEncoder>(
      context_.parts.guest, replica_.guest->info(), context_.parts.executor,
      checkpoint::EncoderOptions{.reference_bytes_max = reference_bytes_max()});
  return {};
}

PrimaryRunner::~PrimaryRunner() {
  replica_.gate->set_waiting_sink([] {});
  replica_.guest->set_event_sink([](const GuestEvent&) {});
  connection_.reset();
  listening_ = nullptr;
  comparison_.reset();
  end_log();
  if (verification_) verification_->done(failure(Code::cancelled, "the session stopped"));
  if (change_) change_->done(failure(Code::cancelled, "the session stopped"));
  if (holding_) end_hold(failure(Code::cancelled, "the session stopped"));
  if (tracking_ && !left_) replica_.guest->stop_tracking();
}

// --- doing what the machine asks ----------------------------------------------------------------

// What is let out by comparison must stop before the first of the actions.
void PrimaryRunner::perform(core::Actions actions) {
  if (core_.state() != core::PrimaryState::protecting) rest_comparison();
  const auto one = [this](const core::Action& action) { perform_one(action); };
  if (actions_.run(std::move(actions), one)) publish();
}

void PrimaryRunner::perform_one(const core::Action& action) {
  auto& gate = *replica_.gate;
  const auto told = [&](const Status& status, std::string_view doing) {
    if (!status) context_.tell(LogLevel::error, "error", status.within(doing).to_string(), {});
  };
  std::visit(
      [&](const auto& what) {
        using What = std::decay_t<decltype(what)>;
        if constexpr (std::is_same_v<What, core::BeginSync>) {
          begin_sync();
        } else if constexpr (std::is_same_v<What, core::DropPeer>) {
          drop_peer(what.why);
        } else if constexpr (std::is_same_v<What, core::TakeCheckpoint>) {
          begin_checkpoint(what);
        } else if constexpr (std::is_same_v<What, core::ReleaseOutput>) {
          release(what);
        } else if constexpr (std::is_same_v<What, core::OpenOutput>) {
          ++gate_turns_;
          context_.parts.guard->arm(Nanos{0});
          told(gate.open(), "open the gate");
          finish_released({core_.record().generation, core_.newest_captured()}, Nanos{0});
        } else if constexpr (std::is_same_v<What, core::DiscardOutput>) {
          ++gate_turns_;
          gate.discard();
        } else if constexpr (std::is_same_v<What, core::ResumeGuest>) {
          told(replica_.guest->resume(), "resume the guest");
        } else if constexpr (std::is_same_v<What, core::Held>) {
          if (holding_) holding_->stands = true;
        } else if constexpr (std::is_same_v<What, core::StopGuest>) {
          stop_guest(what.why);
        } else if constexpr (std::is_same_v<What, core::SendMessage>) {
          if (connection_)
            connection_->send(wire::encode(what.message, context_.parts.guest, what.generation));
        } else if constexpr (std::is_same_v<What, core::SwapRecord>) {
          ask(context_, own_posting_, what,
              [this](const SwapAnswer& answer) { perform(core_.on_swap(context_.now(), answer)); });
        } else if constexpr (std::is_same_v<What, core::ReadRecord>) {
          ask(context_, own_posting_, what,
              [this](const ReadAnswer& answer) { perform(core_.on_read(context_.now(), answer)); });
        } else if constexpr (std::is_same_v<What, core::Tell>) {
          publish();  // Who is told looks at the status.
          context_.tell(LogLevel::info, what.event, what.text, {});
        }
      },
      action);
}

Time PrimaryRunner::wake_at() const {
  const auto compared = comparison_ ? comparison_->wake_at() : std::nullopt;
  return std::min(core_.wake_at(), compared.value_or(core_.wake_at()));
}

void PrimaryRunner::tick() {
  watch_comparison();
  perform(core_.on_tick(context_.now()));
  if (!core_.must_confirm()) context_.parts.guard->beat();
  if (following_) watch_log();
  go_on_with_change();
  go_on_with_hold();
  if (detector_) detector_->progress();
}

// --- events -----------------------------------------------------------------------------------

void PrimaryRunner::on_message(const wire::Message& message) {
  const Time now = context_.now();
  if (const auto* ack = std::get_if<wire::Ack>(&message)) {
    if (following_) following_->recorder.acknowledged(ack->id);
    perform(core_.on_ack(now, ack->id));
    go_on_with_change();
    return go_on_with_hold();
  }
  if (const auto* hold = std::get_if<wire::Hold>(&message)) return on_hold(*hold);
  if (const auto* followed = std::get_if<wire::Followed>(&message)) return on_followed(*followed);
  if (const auto* probe = std::get_if<wire::ProbeAnswer>(&message)) return on_probe_answer(*probe);
  if (const auto* verify = std::get_if<wire::Verify>(&message)) return on_verify(*verify);
  std::string why = "the backup sent a message that only a primary sends";
  if (const auto* refuse = std::get_if<wire::Refuse>(&message)) why = refuse->text;
  const auto* bye = std::get_if<wire::Bye>(&message);
  if (bye) why = bye->text;
  disconnect();
  perform(core_.on_disconnected(now, why));
  if (bye) perform(core_.on_suspected(now, why));  // It leaves: no need to wait for silence.
}

void PrimaryRunner::on_guest_event(const GuestEvent& event) {
  const Time now = context_.now();
  context_.tell(LogLevel::warning, "guest_" + std::string(to_string(event.kind)), event.detail, {});
  switch (event.kind) {
    case GuestEvent::Kind::ended: return perform(core_.on_guest_ended(now));
    case GuestEvent::Kind::process_died: return perform(core_.on_guest_lost(now, event.detail));
    case GuestEvent::Kind::reconfigured:
    case GuestEvent::Kind::migrating:
      // What is protected no longer matches what runs: never silently.
      return perform(core_.unprotect(now));
    case GuestEvent::Kind::paused:
    case GuestEvent::Kind::resumed:
      owner_paused_ = event.kind == GuestEvent::Kind::paused;
      return perform(core_.on_output_waiting(now));  // The backup is to know soon.
    case GuestEvent::Kind::crashed:
    case GuestEvent::Kind::rebooted: return;
  }
}

Status PrimaryRunner::switch_over() {
  FT_TRY(core_.can_switch_over());
  perform(core_.switch_over(context_.now()));
  return {};
}

Status PrimaryRunner::unprotect() {
  if (!core_.peer()) return Status(Code::refused, "the guest is not protected");
  perform(core_.unprotect(context_.now()));
  return {};
}

void PrimaryRunner::publish() {
  const auto& guest = *replica_.guest;
  const bool is_protected = core_.is_protected();
  context_.statistics.update([&](SessionStatus& s) {
    s.role = core_.state() == core::PrimaryState::fenced  ? Role::fenced
             : core_.state() == core::PrimaryState::ended ? Role::ended
                                                          : Role::primary;
    s.state = core::to_string(core_.state());
    s.is_protected = is_protected;
    s.self = core_.self();
    s.generation = core_.record().generation;
    s.epoch_captured = core_.newest_captured().value;
    s.epoch_acknowledged = core_.newest_acknowledged().value;
    s.epoch_released = core_.newest_released().epoch.value;
    s.guest_clock_lag_ms = to_ms(guest.clock_lag());
    if (comparison_) s.compare = comparison_->status();
    if (is_protected && !was_protected_) ++s.reprotects;
  });
  was_protected_ = is_protected;
}

}  // namespace libft::session
