// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/primary_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "os/random.h"
#include "session/memory_hash.h"
#include "session/shape.h"

namespace libft::session {
namespace {

core::PrimaryOptions core_options(const SessionOptions& options, const GateLimits& gate) {
  core::PrimaryOptions core;
  core.interval.kind =
      options.adaptive ? core::IntervalOptions::Kind::adaptive : core::IntervalOptions::Kind::fixed;
  core.interval.interval = options.interval;
  core.interval.floor = options.floor;
  core.interval.idle = options.idle;
  core.inflight_max = options.inflight_max;
  core.epochs_held_max = gate.epochs_held_max;
  core.stall_limit = options.detector.interval * options.detector.missed_max;
  return core;
}

}  // namespace

Result<std::unique_ptr<PrimaryRunner>> PrimaryRunner::make(Context& context, Replica& replica,
                                                           Incarnation self, OwnershipRecord record,
                                                           Epoch next) {
  const auto options = core_options(context.options, replica.gate->limits());
  std::unique_ptr<PrimaryRunner> runner(
      new PrimaryRunner(context, replica, std::move(self), std::move(record), next, options));
  FT_TRY(runner->prepare());
  return runner;
}

PrimaryRunner::PrimaryRunner(Context& context, Replica& replica, Incarnation self,
                             OwnershipRecord record, Epoch next, core::PrimaryOptions options)
    : context_(context),
      replica_(replica),
      core_(std::move(self), std::move(record), next, options, context.now()),
      posting_(context.mailbox),
      own_posting_(context.mailbox),
      detector_posting_(context.mailbox) {}

Status PrimaryRunner::prepare() {
  replica_.gate->set_waiting_sink(
      own_posting_.later([this] { perform(core_.on_output_waiting(context_.now())); }));
  replica_.guest->set_event_sink(
      own_posting_.later<GuestEvent>([this](const GuestEvent& event) { on_guest_event(event); }));
  context_.parts.guard->arm(Nanos{0});
  FT_TRY(replica_.gate->open());
  forget_peer();
  publish();
  return {};
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
      checkpoint::EncoderOptions{.reference_bytes_max = options.reference_bytes_max});
  return {};
}

PrimaryRunner::~PrimaryRunner() {
  replica_.gate->set_waiting_sink([] {});
  replica_.guest->set_event_sink([](const GuestEvent&) {});
  connection_.reset();
  if (verification_) verification_->done(failure(Code::cancelled, "the session stopped"));
  if (tracking_) replica_.guest->stop_tracking();
}

// --- doing what the machine asks ----------------------------------------------------------------

// Actions that follow from an action are done after those that were asked for with it.
void PrimaryRunner::perform(core::Actions actions) {
  for (auto& action : actions) todo_.push_back(std::move(action));
  if (performing_) return;
  performing_ = true;
  while (!todo_.empty()) {
    const auto action = std::move(todo_.front());
    todo_.pop_front();
    perform_one(action);
  }
  performing_ = false;
  publish();
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
          checkpoint(what);
        } else if constexpr (std::is_same_v<What, core::ReleaseOutput>) {
          release(what);
        } else if constexpr (std::is_same_v<What, core::OpenOutput>) {
          context_.parts.guard->arm(Nanos{0});
          told(gate.open(), "open the gate");
          finish_released({core_.record().generation, core_.newest_captured()}, Nanos{0});
        } else if constexpr (std::is_same_v<What, core::DiscardOutput>) {
          gate.discard();
        } else if constexpr (std::is_same_v<What, core::ResumeGuest>) {
          told(replica_.guest->resume(), "resume the guest");
        } else if constexpr (std::is_same_v<What, core::StopGuest>) {
          stop_guest(what.why);
        } else if constexpr (std::is_same_v<What, core::SendMessage>) {
          if (connection_)
            connection_->send(wire::encode(what.message, context_.parts.guest, what.generation));
        } else if constexpr (std::is_same_v<What, core::SwapRecord>) {
          ask_swap(what);
        } else if constexpr (std::is_same_v<What, core::ReadRecord>) {
          ask_read();
        } else if constexpr (std::is_same_v<What, core::Tell>) {
          context_.tell(LogLevel::info, what.event, what.text, {});
        }
      },
      action);
}

void PrimaryRunner::ask_swap(const core::SwapRecord& swap) {
  context_.arbiter.post_swap(context_.parts.guest, swap.from, swap.to,
                             own_posting_.later<SwapAnswer>([this](const SwapAnswer& answer) {
                               perform(core_.on_swap(context_.now(), answer));
                             }));
}

void PrimaryRunner::ask_read() {
  context_.arbiter.post_read(context_.parts.guest,
                             own_posting_.later<ReadAnswer>([this](const ReadAnswer& answer) {
                               perform(core_.on_read(context_.now(), answer));
                             }));
}

void PrimaryRunner::tick() {
  perform(core_.on_tick(context_.now()));
  if (!core_.must_confirm()) context_.parts.guard->beat();
  if (detector_) detector_->progress();
}

// --- checkpoints --------------------------------------------------------------------------------

void PrimaryRunner::checkpoint(const core::TakeCheckpoint& order) {
  if (order.begin_hold) {
    if (replica_.input && context_.options.redeliver_input)
      inputs_ = std::make_unique<InputForwarder>(*replica_.input,
                                                 own_posting_.later([this] { send_inputs(); }));
    context_.parts.guard->beat();
    context_.parts.guard->arm(context_.options.detector.interval *
                              context_.options.detector.missed_max);
  }
  if (inputs_) inputs_->set_epoch(order.id.epoch.next());
  const bool verify = verification_ && verification_->id.epoch.value == 0;
  const checkpoint::CaptureOrder capture{.id = order.id,
                                         .begin_hold = order.begin_hold,
                                         .stay_paused = order.stay_paused || verify,
                                         .guest_ended = order.guest_ended,
                                         .guest_paused = owner_paused_};
  auto captured = checkpointer_->run(capture);
  if (!captured) {
    perform(core_.on_capture_failed(context_.now(), order.id, captured.error().to_string()));
    return;
  }
  auto* epoch = *captured;
  if (verify) capture_for_verify(*epoch, order.stay_paused);
  Pending pending;
  pending.pages = epoch->pages;
  pending.sealed_at = epoch->resumed_at;
  pending.record = {.id = epoch->id,
                    .paused_at = epoch->paused_at,
                    .pages = epoch->pages.pages(),
                    .encoded = {},
                    .times = epoch->times};
  if (paused_before_ != Time{}) pending.record.interval = epoch->paused_at - paused_before_;
  const core::LastCheckpoint last{.resumed_at = epoch->resumed_at,
                                  .stopped = epoch->times.stopped(),
                                  .ran = pending.record.interval - epoch->times.stopped(),
                                  .pages = epoch->pages.pages()};
  paused_before_ = epoch->paused_at;
  pending_.push_back(std::move(pending));
  context_.statistics.update([](SessionStatus& s) { ++s.epochs; });
  send_epoch(epoch);
  perform(core_.on_captured(context_.now(), order.id, last));
}

void PrimaryRunner::send_epoch(checkpoint::CapturedEpoch* epoch) {
  if (!connection_) {
    checkpointer_->give_back(epoch);
    return;
  }
  connection_->send([this, epoch,
                     sent = posting_.later<EpochId, checkpoint::CapturedEpoch*,
                                           Result<checkpoint::EncodeStatistics>, Nanos>(
                         [this](EpochId id, checkpoint::CapturedEpoch* e,
                                const Result<checkpoint::EncodeStatistics>& encoded, Nanos took) {
                           on_sent(id, e, encoded, took);
                         })](Transport& transport) -> Status {
    const Time begun = context_.now();
    auto encoded = encoder_->encode(*epoch, [&](auto pieces) { return transport.send(pieces); });
    const Status status = encoded ? Status() : encoded.error();
    sent(epoch->id, epoch, std::move(encoded), context_.now() - begun);
    return status;
  });
  if (verification_ && verification_->id == epoch->id)
    connection_->send(wire::encode(wire::Verify{verification_->id, verification_->hash},
                                   context_.parts.guest, core_.record().generation));
}

void PrimaryRunner::send_inputs() {
  if (!inputs_) return;
  auto frames = inputs_->take(context_.parts.guest, core_.record().generation);
  if (connection_ && !frames.empty()) connection_->send(std::move(frames));
}

void PrimaryRunner::on_sent(EpochId id, checkpoint::CapturedEpoch* epoch,
                            const Result<checkpoint::EncodeStatistics>& encoded, Nanos took) {
  checkpointer_->give_back(epoch);
  if (!encoded) return;  // The connection breaks with the same failure.
  context_.statistics.update([&](SessionStatus& s) {
    s.bytes_sent += encoded->bytes;
    s.pages_sent += encoded->pages;
    s.pages_zero += encoded->zero;
    s.pages_delta += encoded->delta;
    s.pages_raw += encoded->raw;
    s.reference_bytes = encoded->reference_bytes;
  });
  for (auto& pending : pending_) {
    if (pending.record.id != id) continue;
    pending.record.encoded = *encoded;
    pending.record.times.replicate = took;
    pending.sent_at = context_.now();
    pending.sent = true;
  }
}

void PrimaryRunner::release(const core::ReleaseOutput& order) {
  const Time begun = context_.now();
  if (auto status = replica_.gate->release(order.through); !status)
    context_.tell(LogLevel::error, "error", status.within("release output").to_string(), {});
  finish_released(order.through, context_.now() - begun);
}

void PrimaryRunner::finish_released(EpochId through, Nanos took) {
  const Time now = context_.now();
  while (!pending_.empty() && pending_.front().record.id <= through) {
    auto& pending = pending_.front();
    pending.record.held = now - pending.sealed_at;
    pending.record.times.release = took;
    // An acknowledgement can overtake the sender's own report; then it took no time to speak of.
    if (pending.sent)
      pending.record.times.acknowledge = std::max(Nanos{0}, now - took - pending.sent_at);
    context_.statistics.add(pending.record);
    context_.tell(LogLevel::debug, "epoch", to_string(pending.record.id), to_json(pending.record));
    pending_.pop_front();
  }
}

// --- the backup comes and goes
// --------------------------------------------------------------------

void PrimaryRunner::offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received) {
  wire::FrameReader reader(context_.parts.guest);
  std::size_t fed = 0;
  while (fed < received.size()) {
    const auto space = reader.space();
    const auto bytes = std::min(space.size(), received.size() - fed);
    std::copy_n(received.begin() + static_cast<std::ptrdiff_t>(fed), bytes, space.begin());
    reader.stored(bytes);
    fed += bytes;
  }
  const auto frame = reader.next();
  const auto message = frame && *frame ? wire::decode(**frame)
                                       : failure(Code::corrupt, "the first frame is not a Hello");
  const auto* hello = message ? std::get_if<wire::Hello>(&*message) : nullptr;
  if (!hello) return refuse(*connection, Code::corrupt, "the first frame is not a Hello");
  if (hello->version_max < wire::kVersionOldest || hello->version_min > wire::kVersion)
    return refuse(
        *connection, Code::unsupported,
        fmt::format("this host speaks libft's protocol {} to {}, the backup {} to {}: "
                    "install the same release of libft on both",
                    wire::kVersionOldest, wire::kVersion, hello->version_min, hello->version_max));
  const auto& info = replica_.guest->info();
  const std::uint64_t needed = info.pages() * info.page_bytes;
  if (hello->memory_bytes_free != 0 && hello->memory_bytes_free < needed)
    return refuse(
        *connection, Code::exhausted,
        fmt::format("the guest has {} MiB of memory, and the backup host has {} MiB free: "
                    "free memory there, or use another host",
                    needed >> 20, hello->memory_bytes_free >> 20));
  if (connection_ && core_.peer() && *core_.peer() == hello->backup) {
    // It would not dial if it still had the old connection; from here that one may look open for long.
    disconnect();
    perform(core_.on_disconnected(context_.now(), "the backup dialled anew"));
  }
  const auto answer = core_.consider(*hello);
  if (!answer.accepted) return refuse(*connection, Code::refused, answer.why);
  const auto used = wire::kHeaderBytes + (*frame)->header.payload_bytes;
  received.erase(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(used));
  welcome(std::move(connection), std::move(received), *hello, answer.resume);
}

void PrimaryRunner::refuse(Transport& transport, Code code, const std::string& why) {
  const auto frame =
      wire::encode(wire::Refuse{code, why}, context_.parts.guest, core_.record().generation);
  const std::span<const std::byte> piece(frame);
  (void)transport.send({&piece, 1});  // It is closed next; a peer that is gone needs no answer.
  context_.tell(LogLevel::info, "backup_refused", why, {});
}

void PrimaryRunner::welcome(std::unique_ptr<Transport> transport, std::vector<std::byte> rest,
                            const wire::Hello& hello, bool resume) {
  std::array<std::uint8_t, 8> random{};
  if (auto status = os::random_bytes(random); !status)
    return refuse(*transport, Code::internal, status.message());
  std::uint64_t token = 0;
  for (const auto byte : random) token = token << 8 | byte;

  if (auto status = prepare_to_replicate(); !status)
    return refuse(*transport, status.code(), status.message());
  disconnect();
  if (resume) {
    carry_since(hello.newest_complete);
    encoder_->resume(hello.newest_complete);
  } else {
    encoder_->reset();
    pending_.clear();
  }
  const auto lost = posting_.later<Status>([this](const Status& status) {
    if (status.code() == Code::corrupt)
      context_.statistics.update([](SessionStatus& s) { ++s.corrupt_frames; });
    disconnect();
    perform(core_.on_disconnected(context_.now(), status.to_string()));
  });
  connection_ = std::make_unique<Connection>(
      std::move(transport), context_.parts.guest, std::move(rest),
      Connection::Sinks{.message = posting_.later<wire::Message>(
                            [this](const wire::Message& message) { on_message(message); }),
                        .broken = lost});
  wire::Welcome answer;
  answer.version = std::min(wire::kVersion, hello.version_max);
  answer.features = hello.features & (wire::feature::delta_pages | wire::feature::delta_state);
  answer.primary = core_.self();
  answer.shape = shape_of(replica_.guest->info());
  answer.resume = resume;
  answer.heartbeat_token = token;
  answer.heartbeat_port = context_.parts.heartbeat_port;
  answer.heartbeat_interval_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<Millis>(context_.options.detector.interval).count());
  start_detector(token);
  connection_->send(wire::encode(answer, context_.parts.guest, core_.record().generation));
  context_.statistics.update([&](SessionStatus& s) {
    s.transport = connection_->description();
    s.peer = to_string(hello.backup);
  });
  perform(core_.on_backup(context_.now(), hello));
}

// What the backup lacks goes with the next epoch, raw: the reference image is ahead of it.
void PrimaryRunner::carry_since(EpochId newest) {
  PageSet lacking;
  for (const auto& pending : pending_)
    if (pending.record.id.epoch > newest.epoch) lacking.merge(pending.pages);
  checkpointer_->carry(lacking);
}

void PrimaryRunner::start_detector(std::uint64_t token) {
  detector_.reset();
  detector_posting_.forget();
  heard_ = false;
  if (!context_.parts.expect_heartbeats || context_.parts.heartbeat_port == 0) return;
  auto detector = context_.parts.expect_heartbeats(token);
  Status status = detector ? (*detector)->start(detector_posting_.later<DetectorEvent>(
                                 [this](const DetectorEvent& event) { on_detector(event); }))
                           : detector.error();
  if (status) {
    detector_ = std::move(*detector);
  } else {
    context_.tell(LogLevel::error, "error", status.within("heartbeats").to_string(), {});
  }
}

void PrimaryRunner::on_detector(const DetectorEvent& event) {
  if (event.kind == DetectorEvent::Kind::alive) heard_ = true;
  if (event.kind != DetectorEvent::Kind::suspected) {
    context_.tell(LogLevel::info, "heartbeat", event.detail, {});
    return;
  }
  // A backup dials heartbeats when its standby is made, which takes as long as it takes.
  if (!heard_ && core_.state() == core::PrimaryState::syncing) return;
  context_.statistics.update([](SessionStatus& s) { ++s.heartbeat_suspicions; });
  perform(core_.on_suspected(context_.now(), event.detail));
}

// Waits for the sender, so that no epoch is being encoded any more.
void PrimaryRunner::disconnect() {
  connection_.reset();
  posting_.forget();
  if (checkpointer_) checkpointer_->reclaim();
}

void PrimaryRunner::drop_peer(const std::string& why) {
  if (connection_) context_.tell(LogLevel::info, "backup_dropped", why, {});
  disconnect();
  // A backup that is still listed may come back with its image: what it lacks must not be
  // forgotten.
  const auto state = core_.state();
  if (core_.peer() && state != core::PrimaryState::fenced && state != core::PrimaryState::ended)
    return;
  detector_.reset();
  detector_posting_.forget();
  inputs_.reset();
  sync_.reset();
  pending_.clear();
  if (tracking_) replica_.guest->stop_tracking();
  tracking_ = false;
  if (verification_) {
    verification_->done(failure(Code::peer_lost, "the backup went away meanwhile"));
    verification_.reset();
  }
  forget_peer();
}

void PrimaryRunner::forget_peer() {
  context_.statistics.update([](SessionStatus& s) {
    s.peer.clear();
    s.transport.clear();
    s.sync_round = 0;
  });
}

void PrimaryRunner::stop_guest(const std::string& why) {
  context_.tell(LogLevel::warning, "guest_stopped", why, {});
  replica_.guest->destroy();
}

// --- the first synchronisation ----------------------------------------------------------------

void PrimaryRunner::fail_sync(const Status& status) {
  context_.tell(LogLevel::error, "sync_failed", status.to_string(), {});
  drop_peer(status.message());
  perform(core_.on_disconnected(context_.now(), status.to_string()));
}

void PrimaryRunner::begin_sync() {
  if (auto status = replica_.guest->start_tracking(); !status)
    return fail_sync(status.within("begin to track written pages"));
  tracking_ = true;
  sync_ = Sync{
      SyncRounds(context_.options.sync_rounds_max, context_.options.sync_pages_left), {}, false};
  const auto all = all_pages(replica_.guest->info());
  context_.statistics.update([&](SessionStatus& s) {
    s.sync_pages_sent = 0;
    s.sync_pages_total = all.pages();
    s.sync_round = 1;
  });
  sync_round(all);
}

void PrimaryRunner::sync_round(const PageSet& pages) {
  const auto total = all_pages(replica_.guest->info()).pages();
  connection_->send(wire::encode(
      wire::SyncRound{sync_->rounds.round() + 1, total - std::min(pages.pages(), total), total},
      context_.parts.guest, core_.record().generation));
  connection_->send([this, pages, generation = core_.record().generation,
                     done = posting_.later([this] { on_round_done(); })](Transport& transport) {
    const auto& info = replica_.guest->info();
    const auto status = send_round(info, pages, generation, *encoder_, [&](auto pieces) {
      std::uint64_t bytes = 0;
      for (const auto& piece : pieces) bytes += piece.size();
      context_.statistics.update([&](SessionStatus& s) {
        s.bytes_sent += bytes;
        s.sync_pages_sent = std::min(s.sync_pages_total, s.sync_pages_sent + kSyncPagesAPiece);
      });
      return transport.send(pieces);
    });
    if (status) done();
    return status;
  });
}

void PrimaryRunner::on_round_done() {
  if (!sync_) return;
  if (auto status = replica_.guest->take_written(sync_->written); !status)
    return fail_sync(status.within("find written pages"));
  const auto left = sync_->written.pages();
  const bool converged = sync_->rounds.converged(left);
  context_.tell(
      LogLevel::info, "sync_round",
      fmt::format("round {} sent; {} pages were written meanwhile", sync_->rounds.round(), left),
      {});
  context_.statistics.update([&](SessionStatus& s) {
    s.sync_round = sync_->rounds.round() + 1;
    s.sync_pages_sent = s.sync_pages_total - std::min(left, s.sync_pages_total);
  });
  if (!converged) return sync_round(sync_->written);
  if (!sync_->probed) return probe();
  checkpointer_->want(sync_->written);
  sync_.reset();
  perform(core_.on_sync_converged(context_.now()));
}

// The backup tries a real device state in a throw-away instance, so that whether it loads is not
// first learnt at a promotion. The memory that belongs to it goes first: a state checks the virtio
// rings that it finds there.
void PrimaryRunner::probe() {
  auto& guest = *replica_.guest;
  const auto& info = guest.info();
  std::vector<std::byte> state, copy;
  copy.reserve((sync_->written.pages() + kSyncPagesAPiece) * info.page_bytes);
  Status status = guest.pause();
  if (status) {
    PageSet meanwhile;
    status = guest.take_written(meanwhile);
    sync_->written.merge(meanwhile);
    copy_pages(info, sync_->written, copy);
    if (status) status = guest.save_state();
    const Status resumed = guest.resume();
    if (status) status = resumed;
  }
  if (status) status = guest.fetch_state(state);
  if (!status) return fail_sync(status.within("take a device state for the backup to try"));
  connection_->send([this, pages = std::exchange(sync_->written, {}), copy = std::move(copy),
                     state = std::move(state),
                     generation = core_.record().generation](Transport& transport) -> Status {
    const auto sink = [&](auto pieces) { return transport.send(pieces); };
    FT_TRY(send_copied(replica_.guest->info(), pages, copy, generation, *encoder_, sink));
    return encoder_->encode_probe(generation, state, sink);
  });
}

void PrimaryRunner::on_probe_answer(const wire::ProbeAnswer& answer) {
  if (!sync_ || sync_->probed) return;
  if (!answer.loadable)
    return fail_sync(Status(
        Code::refused, fmt::format("the backup cannot load this guest's state: {}", answer.text)));
  sync_->probed = true;
  PageSet meanwhile;
  if (auto status = replica_.guest->take_written(meanwhile); !status)
    return fail_sync(status.within("find written pages"));
  sync_->written.merge(meanwhile);
  sync_round(sync_->written);  // One more round, so that the joining pause is short.
}

// --- events -----------------------------------------------------------------------------------

void PrimaryRunner::on_message(const wire::Message& message) {
  const Time now = context_.now();
  if (const auto* ack = std::get_if<wire::Ack>(&message))
    return perform(core_.on_ack(now, ack->id));
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
    if (is_protected && !was_protected_) ++s.reprotects;
  });
  was_protected_ = is_protected;
}

// --- verification -------------------------------------------------------------------------------

void PrimaryRunner::verify(VerifyDone done) {
  if (!core_.is_protected() || verification_)
    return done(failure(Code::refused, verification_ ? "a verification is under way"
                                                     : "the guest is not protected now"));
  verification_ = Verification{std::move(done), {}, 0};
  perform(core_.on_output_waiting(context_.now()));  // A checkpoint soon.
}

void PrimaryRunner::capture_for_verify(const checkpoint::CapturedEpoch& epoch, bool stay_paused) {
  verification_->id = epoch.id;
  verification_->hash = hash_of_memory(replica_.guest->info());
  if (stay_paused) return;
  if (auto status = replica_.guest->resume(); !status)
    context_.tell(LogLevel::error, "error", status.within("resume the guest").to_string(), {});
}

void PrimaryRunner::on_verify(const wire::Verify& answer) {
  if (!verification_ || verification_->id != answer.id) return;
  const auto& info = replica_.guest->info();
  auto done = std::move(verification_->done);
  const bool same = verification_->hash == answer.memory_hash;
  const auto text =
      fmt::format("epoch {}: {} pages, hash {:016x} here, {:016x} at the backup",
                  to_string(answer.id), info.pages(), verification_->hash, answer.memory_hash);
  verification_.reset();
  done(same ? Result<std::string>(text) : failure(Code::corrupt, "the memories differ: " + text));
}

}  // namespace libft::session
