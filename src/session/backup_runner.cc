// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/backup_runner.h"

#include <fmt/format.h>

#include "os/memory_free.h"
#include "os/random.h"
#include "session/shape.h"
#include "session/strategy.h"

namespace libft::session {
namespace {

constexpr std::size_t kPagesHashedAtOnce = 256;

}  // namespace

core::BackupOptions core_options(const Context& context) {
  core::BackupOptions options;
  options.head_start = context.options.head_start;
  options.automatic = context.options.automatic_failover && context.arbiter.automatic();
  return options;
}

Result<Incarnation> new_incarnation(const std::string& host) {
  Incarnation incarnation{host, {}};
  FT_TRY(os::random_bytes(incarnation.id));
  return incarnation;
}

Result<std::unique_ptr<BackupRunner>> BackupRunner::make(Context& context, Replica& replica,
                                                         Promoted promoted) {
  FT_ASSIGN(auto self, new_incarnation(context.parts.host));
  std::unique_ptr<BackupRunner> runner(
      new BackupRunner(context, replica, std::move(promoted), std::move(self)));
  runner->connect();
  return runner;
}

BackupRunner::BackupRunner(Context& context, Replica& replica, Promoted promoted, Incarnation self)
    : context_(context),
      replica_(replica),
      promoted_(std::move(promoted)),
      core_(std::move(self), core_options(context)),
      posting_(context.mailbox),
      own_posting_(context.mailbox),
      voting_posting_(context.mailbox) {
  publish();
}

BackupRunner::~BackupRunner() {
  if (core_.state() != core::BackupState::promoted && !left_)
    send(wire::Bye{"the backup stops"}, {});
  connector_.reset();  // First: its thread uses the rest.
  give_up_trial("the session ends");
  if (holding_) end_hold(failure(Code::cancelled, "the session stopped"));
}

void BackupRunner::connect() {
  connector_ = std::make_unique<Connector>(
      context_.parts.guest, context_.parts.dial,
      Connector::Sinks{
          .welcomed = [this, welcomed = posting_.later<wire::Welcome, Generation, std::string>(
                                 [this](const wire::Welcome& welcome, Generation generation,
                                        const std::string& description) {
                                   on_welcomed(welcome, generation, description);
                                 })](const wire::Welcome& welcome, Generation generation,
                                     const std::string& description) -> Status {
            FT_TRY(prepare(welcome));
            welcomed(welcome, generation, description);
            return {};
          },
          .frame =
              posting_.later<OwnedFrame>([this](OwnedFrame frame) { on_frame(std::move(frame)); }),
          .lost = posting_.later<Status>([this](const Status& status) { on_lost(status); }),
          .not_welcome =
              posting_.later<Status>([this](const Status& status) { on_not_welcome(status); })});
  announce();
}

void BackupRunner::on_not_welcome(const Status& status) {
  if (status.to_string() == last_trouble_) return;  // Once, not every 200 ms.
  last_trouble_ = status.to_string();
  context_.tell(LogLevel::warning, "not_connected", last_trouble_, {});
}

// What came while this replica claimed belongs to epochs that it will not take, but no input of the
// guest's does: who took that last must not have lost it.
void BackupRunner::keep_waiting_inputs() {
  for (const auto& frame : waiting_)
    if (frame.header.type == wire::FrameType::input_copy) keep_input(frame.view());
}

void BackupRunner::keep_input(const wire::Frame& frame) {
  if (auto status = inputs_.keep(frame); !status)
    context_.tell(LogLevel::warning, "corrupt_frame", status.to_string(), {});
}

void BackupRunner::clear_waiting() {
  for (const auto& frame : waiting_) connector_->done_with(frame.payload.size());
  waiting_.clear();
}

void BackupRunner::announce() {
  const auto newest = core_.newest();
  connector_->announce({.self = core_.self(),
                        .newest = newest,
                        .image_of = newest.epoch.value ? core_.primary() : Incarnation{},
                        .memory_bytes_free = replica_.guest ? 0 : os::memory_bytes_free(),
                        .features = can_compare_
                                        ? Connector::kBackupFeatures
                                        : Connector::kBackupFeatures & ~wire::feature::compares});
}

// --- doing what the machine asks ----------------------------------------------------------------

void BackupRunner::perform(core::Actions actions) {
  const auto one = [this](const core::Action& action) { perform_one(action); };
  if (actions_.run(std::move(actions), one)) publish();
}

void BackupRunner::perform_one(const core::Action& action) {
  std::visit(
      [&](const auto& what) {
        using What = std::decay_t<decltype(what)>;
        if constexpr (std::is_same_v<What, core::SendMessage>) {
          send(what.message, what.generation);
        } else if constexpr (std::is_same_v<What, core::ApplyEpoch>) {
          apply(what.id);
        } else if constexpr (std::is_same_v<What, core::StartOver>) {
          start_over(what.why);
        } else if constexpr (std::is_same_v<What, core::StandDown>) {
          stand_down(what.why);
        } else if constexpr (std::is_same_v<What, core::Promote>) {
          promote(what);
        } else if constexpr (std::is_same_v<What, core::SwapRecord>) {
          ask(context_, own_posting_, what,
              [this](const SwapAnswer& answer) { perform(core_.on_swap(context_.now(), answer)); });
        } else if constexpr (std::is_same_v<What, core::ReadRecord>) {
          ask(context_, own_posting_, what, [this](const ReadAnswer& answer) {
            perform(core_.on_read(context_.now(), answer));
            // It counts what the primary contradicts, and is no replica of it any more.
            if (outvoted_primary_ && core_.acknowledges())
              start_over("it outvoted the primary, and the record does not list it");
          });
        } else if constexpr (std::is_same_v<What, core::Tell>) {
          if (what.event == "claiming") claimed_at_ = context_.now();
          publish();  // Who is told looks at the status.
          context_.tell(LogLevel::info, what.event, what.text, {});
        }
      },
      action);
}

void BackupRunner::send(const wire::Message& message, Generation generation) {
  // A failure shows as the end of the connection, on the connector's thread.
  (void)connector_->send(wire::encode(message, context_.parts.guest, generation));
}

void BackupRunner::tick() {
  if (!in_doubt()) perform(core_.on_tick(context_.now()));
  watch_witness();
  execute_due();
  handle_waiting();
  send_said();
  go_on_with_hold();
  if (detector_) detector_->progress();
}

// --- the connection -----------------------------------------------------------------------------

// The connector's thread: the session's does not touch the replica before on_welcomed.
Status BackupRunner::prepare(const wire::Welcome& welcome) {
  const auto info = info_of(welcome.shape);
  const bool fresh = !replica_.guest;
  if (fresh) {
    FT_ASSIGN(auto made, context_.parts.make_standby(info));
    const std::scoped_lock lock(context_.replica_mutex);
    replica_ = std::move(made);
  }
  if ((welcome.features & wire::feature::logs) != 0 && replica_.exact == nullptr)
    return missing_for_replay(replica_.guest->info().driver);
  FT_TRY(can_follow(welcome));
  if (fresh && strategy_of(welcome.features) == Strategy::compare) FT_TRY(begin_speculation());
  return replica_.guest->accepts(info);
}

void BackupRunner::on_welcomed(const wire::Welcome& welcome, Generation generation,
                               const std::string& description) {
  clear_waiting();
  last_trouble_.clear();
  if (strategy_of(welcome.features) == Strategy::compare) {
    if (const Status status = begin_to_shadow(); !status) return start_over(status.to_string());
  }
  const auto& info = replica_.guest->info();
  if (!assembler_)
    assembler_ = std::make_unique<checkpoint::EpochAssembler>(context_.parts.guest, info,
                                                              context_.parts.arena);
  assembler_->drop_partial();
  logs_.drop_partial();
  if (welcome.resume) {
    become(strategy_of(welcome.features));  // A change may have been lost with the connection.
  } else {
    stop_following();  // Before its guest's memory is written anew.
    strategy_ = strategy_of(welcome.features);
  }
  replica_.guest->set_event_sink(
      posting_.later<GuestEvent>([this](const GuestEvent& event) { on_guest_event(event); }));
  detector_.reset();
  if (context_.parts.dial_heartbeats && welcome.heartbeat_port != 0) {
    auto detector = context_.parts.dial_heartbeats(welcome.heartbeat_token, welcome.heartbeat_port);
    Status status = detector ? (*detector)->start(own_posting_.later<DetectorEvent>(
                                   [this](const DetectorEvent& event) { on_detector(event); }))
                             : detector.error();
    if (status)
      detector_ = std::move(*detector);
    else
      context_.tell(LogLevel::error, "error", status.within("heartbeats").to_string(), {});
  }
  context_.statistics.update([&](SessionStatus& s) {
    s.transport = description;
    s.peer = to_string(welcome.primary);
    s.guest_description = info.description;
    s.strategy = to_string(strategy_);
    s.tracker = info.tracker;
    s.accelerator = info.accelerator;
  });
  context_.tell(LogLevel::info, "connected", description, {});
  perform(core_.on_welcome(context_.now(), welcome, generation));
  connected_ = true;
  features_ = welcome.features;
  if (welcome.resume && shelf_ && !follow_)
    send(wire::Followed{shelf_->image()}, core_.generation());
  acknowledge_executed();
}

void BackupRunner::on_frame(OwnedFrame frame) {
  waiting_.push_back(std::move(frame));
  handle_waiting();
}

// In order, and only while this replica acknowledges: see core::Backup::acknowledges. What finds no
// room is not acknowledged before the follower has made some. A replica in doubt does not hear what
// would make it take over (the primary's guest ended, or is handed over) before the vote is over.
void BackupRunner::handle_waiting() {
  if (handling_) return;
  handling_ = true;
  const auto has_room = [this] {
    return !stands_ && !(trying_ && trying_->holds) && !in_doubt() &&
           !(shadow_ && shadow_->waits) &&
           !(follow_ && follow_->full() && !(delay_ && delay_->has_room()));
  };
  while (!waiting_.empty() && core_.acknowledges() && has_room()) {
    const auto frame = std::move(waiting_.front());
    waiting_.pop_front();
    handle(frame);
    connector_->done_with(frame.payload.size());
  }
  handling_ = false;
}

void BackupRunner::handle(const OwnedFrame& frame) {
  context_.statistics.update(
      [&](SessionStatus& s) { s.bytes_received += wire::kHeaderBytes + frame.payload.size(); });
  if (wire::is_bulk(frame.header.type)) return on_bulk(frame.view());
  const auto message = wire::decode(frame.view());
  if (message) return on_message(*message, frame.header.id.generation);
  context_.tell(LogLevel::error, "corrupt_frame", message.error().to_string(), {});
  connector_->hang_up();
}

void BackupRunner::on_bulk(const wire::Frame& frame) {
  if (frame.header.type == wire::FrameType::input_copy) return keep_input(frame);
  if (frame.header.type == wire::FrameType::epoch_log) return on_log(frame);
  if (frame.header.type == wire::FrameType::frames_in) return on_frames_in(frame);
  auto complete = assembler_->on_frame(frame);
  if (!complete) return on_corrupt(complete.error());
  if (const auto state = assembler_->take_probe_state()) answer_probe(*state);
  if (!*complete) return;
  const auto& epoch = **complete;
  if (epoch.rebase) return on_rebase(epoch.id);
  complete_ = epoch;
  perform(core_.on_epoch_complete(context_.now(), epoch.id, epoch.first, epoch.guest_ended,
                                  epoch.guest_paused));
  inputs_.forget_through(epoch.id.epoch);
  announce();
}

void BackupRunner::on_corrupt(const Status& status) {
  context_.statistics.update([](SessionStatus& s) { ++s.corrupt_frames; });
  context_.tell(LogLevel::error, "corrupt_frame", status.to_string(), {});
  assembler_->drop_partial();
  logs_.drop_partial();
  connector_->hang_up();
}

void BackupRunner::apply(EpochId id) {
  context_.statistics.update([](SessionStatus& s) { ++s.epochs; });
  if (executed_ == id) return;
  if (log_ && log_->id == id) return keep_log(*std::exchange(log_, std::nullopt));
  stop_following();
  if (shadow_) return apply_shadowed(complete_);
  apply_image();
  if (is_logged(strategy_)) begin_log(id);
}

void BackupRunner::apply_image() {
  if (checking_)
    assembler_->each_page(
        [this](std::span<const std::byte> page) { checking_->memory.hash_now(page); });
  assembler_->apply();
}

// In pieces, so that epochs go on being acknowledged; what they change is hashed before.
void BackupRunner::check() {
  if (!checking_) return;
  if (checking_->memory.hash_some(kPagesHashedAtOnce)) return posting_.later([this] { check(); })();
  Checking checking = std::move(*checking_);
  checking_.reset();
  PageSet left_out;
  for (const auto& run : checking.question.left_out) left_out.add(run.first, run.count);
  checking.memory.leave_out(left_out);
  wire::Verify answer{.id = checking.question.id, .memory_hash = checking.memory.whole()};
  if (answer.memory_hash != checking.question.memory_hash)
    answer.pages = checking.memory.unlike(checking.question);
  send(answer, checking.generation);
}

void BackupRunner::answer_probe(const std::vector<std::byte>& state) {
  if (shadow_) prepare_image_to_probe();
  const auto status = replica_.guest->probe_state(state);
  context_.tell(status ? LogLevel::info : LogLevel::error, "probe",
                status ? "the guest's device state loads here" : status.to_string(), {});
  send(wire::ProbeAnswer{status.ok(), status.message()}, core_.generation());
}

void BackupRunner::on_message(const wire::Message& message, Generation generation) {
  const Time now = context_.now();
  if (const auto* joined = std::get_if<wire::Joined>(&message))
    return perform(core_.on_joined(now, joined->generation));
  if (const auto* hold = std::get_if<wire::Hold>(&message)) return on_hold(*hold);
  if (const auto* change = std::get_if<wire::Change>(&message))
    return become(strategy_of(change->features));
  if (const auto* over = std::get_if<wire::SwitchOver>(&message))
    return perform(core_.on_switch_over(now, over->id));
  if (const auto* ended = std::get_if<wire::Ended>(&message))
    return perform(core_.on_ended(now, ended->text));
  if (const auto* verify = std::get_if<wire::Verify>(&message)) {
    checking_.emplace(Checking{*verify, MemoryHash(replica_.guest->info()), generation});
    return check();
  }
  if (const auto* round = std::get_if<wire::SyncRound>(&message)) {
    context_.statistics.update([&](SessionStatus& s) {
      s.sync_round = round->round;
      s.sync_pages_sent = round->pages_sent;
      s.sync_pages_total = round->pages_total;
    });
    return;
  }
  if (const auto* bye = std::get_if<wire::Bye>(&message))
    context_.tell(LogLevel::info, "bye", bye->text, {});
  if (const auto* refuse = std::get_if<wire::Refuse>(&message))
    context_.tell(LogLevel::error, "refused", refuse->text, {});
  connector_->hang_up();
}

void BackupRunner::on_lost(const Status& status) {
  clear_waiting();
  connected_ = false;
  checking_.reset();
  if (assembler_) assembler_->drop_partial();
  logs_.drop_partial();
  context_.tell(LogLevel::warning, "disconnected", status.to_string(), {});
  perform(core_.on_disconnected(context_.now()));
}

void BackupRunner::on_detector(const DetectorEvent& event) {
  const Time now = context_.now();
  if (event.kind == DetectorEvent::Kind::suspected) {
    suspected_at_ = event.at;
    heard_last_ = event.at - event.silence;
    if (core_.bears_silence(now)) return perform(core_.on_suspected(now, event.detail, Nanos{0}));
    context_.statistics.update([&](SessionStatus& s) {
      ++s.heartbeat_suspicions;
      s.detect_ms = to_ms(event.silence);
    });
    if (in_doubt()) {  // Which of the two is to be promoted, if any, the vote says.
      doubt_->suspected = event;
      return;
    }
    return perform(core_.on_suspected(now, event.detail, event.head_start));
  }
  if (event.kind == DetectorEvent::Kind::alive) heard_last_.reset();
  if (event.kind == DetectorEvent::Kind::alive && in_doubt()) doubt_->suspected.reset();
  if (event.kind == DetectorEvent::Kind::alive) return perform(core_.on_alive(now));
  context_.tell(LogLevel::info, "heartbeat", event.detail, {});
  // The primary lives, but nothing comes by the way of our connection: its output would wait.
  if (event.kind == DetectorEvent::Kind::path_down && event.path == 0)
    connector_->take_another_way();
}

void BackupRunner::on_guest_event(const GuestEvent& event) {
  if (event.kind != GuestEvent::Kind::process_died) return;
  context_.tell(LogLevel::error, "standby_died", event.detail, {});
  if (core_.state() == core::BackupState::promoted) return;
  // Its memory went with it: this incarnation holds nothing any more.
  checking_.reset();
  give_up_trial("the standby's process died");
  trial_.reset();
  stop_following();
  shadow_.reset();
  speculates_ = false;
  assembler_.reset();
  {
    const std::scoped_lock lock(context_.replica_mutex);
    replica_.guest.reset();
    replica_.gate.reset();
  }
  start_over("the standby's process died");
}

// --- the ends -----------------------------------------------------------------------------------

void BackupRunner::start_over(const std::string& why) {
  context_.tell(LogLevel::warning, "start_over", why, {});
  auto self = new_incarnation(context_.parts.host);
  if (!self) return stand_down(self.error().to_string());
  own_posting_.forget();  // Answers to the old incarnation's questions are nobody's.
  detector_.reset();
  checking_.reset();
  give_up_trial(why);
  stop_following();
  end_shadowing();
  if (assembler_) assembler_->reset();
  inputs_.clear();
  core_ = core::Backup(std::move(*self), core_options(context_));
  connector_->hang_up();
  announce();
}

void BackupRunner::stand_down(const std::string& why) {
  if (voting_) voting_->link->say(wire::Ended{core_.generation(), why});
  give_up_trial(why);
  trial_.reset();
  stop_following();
  shadow_.reset();
  detector_.reset();
  connector_->hang_up();
  if (replica_.guest) replica_.guest->destroy();
  context_.statistics.update([](SessionStatus& s) { s.role = Role::ended; });
  context_.tell(LogLevel::info, "stood_down", why, {});
}

void BackupRunner::promote(const core::Promote& order) {
  checking_.reset();
  examining_.reset();
  give_up_trial("the guest is taken over");
  const Time granted = context_.now();
  if (context_.parts.fence) {
    // Safety does not rest on it: a failure is told, and the promotion goes on.
    if (auto status = context_.parts.fence->fence(context_.parts.guest, order.loser); !status)
      context_.tell(LogLevel::warning, "fence_failed", status.to_string(), {});
  }
  auto status = shelf_ ? execute_shelf() : follow_ ? execute_rest() : load_newest();
  const Time loaded = context_.now();
  context_.statistics.update([&](SessionStatus& s) {
    ++s.failovers;
    s.load_ms = to_ms(loaded - granted);
    s.arbitrate_ms = claimed_at_ == Time{} ? 0 : to_ms(granted - claimed_at_);
  });
  if (!status) {
    context_.tell(LogLevel::error, "promotion_failed",
                  status.within("load the guest's state").to_string(), {});
    context_.statistics.update([&](SessionStatus& s) { s.role = Role::failed; });
    send(wire::Bye{"it owns the guest, and cannot run it: " + status.message()}, {});
    return;
  }
  detector_.reset();
  const auto landmark = follow_ ? follow_->take_landmark() : nullptr;  // Ends when the guest runs.
  if (follow_) {
    context_.tell(LogLevel::info, "output_repeated", fmt::format("{} frames", follow_->go_live()),
                  {});
    follow_.reset();
  }
  // What was executed here and not acknowledged is part of the guest's life now, under a new
  // generation.
  context_.options.strategy = strategy_;  // The pair's, whoever leads it.
  const Epoch newest = executing_.empty() ? core_.newest().epoch : executing_.back().id.epoch;
  const bool runs = shadow_ && shadow_->follower.from();
  if (!runs) take_over_shadowed();
  deliver_input();
  promoted_({order.record, core_.self(), newest.next(), order.stay_paused});
  if (runs) take_over_shadowed();  // What it answers before the gate opens, nobody hears.
  context_.statistics.update(
      [&](SessionStatus& s) { s.takeover_ms = to_ms(context_.now() - granted); });
}

// First what the primary passed on, then what the network brought here since it was heard last.
void BackupRunner::deliver_input() {
  if (!replica_.input) return;
  keep_waiting_inputs();
  const auto kept = inputs_.kept(), delivered = inputs_.deliver(*replica_.input);
  const auto missed =
      heard_last_ ? replica_.input->deliver_recent(context_.now() - *heard_last_) : 0;
  context_.tell(
      LogLevel::info, "input_redelivered",
      fmt::format("{} of {} frames, and {} that the primary did not hear", delivered, kept, missed),
      {});
}

Status BackupRunner::fail_over() {
  if (in_doubt())
    return Status(Code::busy,
                  "this replica and the primary differ, and a vote is under way: ask again");
  FT_TRY(core_.can_fail_over());
  perform(core_.fail_over(context_.now()));
  return {};
}

// --- a trial ------------------------------------------------------------------------------------

void BackupRunner::test_failover(TrialDone done) {
  if (trial_) return done(failure(Code::refused, "another trial is under way"));
  if (shadow_)
    return done(failure(Code::unsupported,
                        "the backup runs the guest itself, which is the trial: no copy can be "
                        "tried"));
  if (follow_)
    return done(failure(Code::unsupported,
                        "the backup executes the guest already: `ftctl verify` compares the two"));
  if (core_.newest().epoch.value == 0)
    return done(
        failure(Code::refused, "no complete image yet: wait until `ftctl status` says in_sync"));
  trying_.emplace(Trying{std::move(done), context_.now(), {}});
  trial_ = std::make_unique<Trial>(
      *replica_.guest, Trial::Sinks{.wanted = posting_.later([this] { on_trial_wants(); }),
                                    .over = posting_.later([this] { on_trial_over(); }),
                                    .done = posting_.later<Status>(
                                        [this](const Status& status) { on_trial_done(status); })});
}

// Between two frames: memory and state are those of the newest epoch.
void BackupRunner::on_trial_wants() {
  if (!trying_ || !trial_) return;
  trying_->id = shelf_ ? shelf_->image() : core_.newest();
  trying_->holds = true;
  trial_->grant(assembler_->state());
}

void BackupRunner::on_trial_over() {
  if (trying_) trying_->holds = false;
  handle_waiting();
}

void BackupRunner::on_trial_done(const Status& status) {
  trial_.reset();
  if (!trying_) return;
  const Trying tried = std::move(*trying_);
  trying_.reset();
  if (status.ok())
    tried.done(fmt::format("epoch {} ran here, unplugged; {:.0f} ms in all", to_string(tried.id),
                           to_ms(context_.now() - tried.begun)));
  else
    tried.done(failure(status));
  handle_waiting();
}

void BackupRunner::give_up_trial(const std::string& why) {
  if (trial_) trial_->cancel(why);
  if (!trying_) return;
  const TrialDone done = std::move(trying_->done);
  trying_.reset();
  done(failure(Code::cancelled, "the trial is over: " + why));
}

std::unique_ptr<Trial> BackupRunner::take_trial() { return std::move(trial_); }

void BackupRunner::publish() {
  context_.statistics.update([&](SessionStatus& s) {
    if (s.role != Role::failed && s.role != Role::ended) s.role = Role::backup;
    s.state = core_.suspects() ? "suspecting" : core::to_string(core_.state());
    s.is_protected = false;
    s.self = core_.self();
    s.generation = core_.generation();
    s.epoch_acknowledged = core_.newest().epoch.value;
  });
}

}  // namespace libft::session
