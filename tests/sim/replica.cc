// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/replica.h"

#include <fmt/format.h>

#include <cstring>

#include "sim/host.h"
#include "sim/world.h"

namespace libft::sim {
namespace {
template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;
}  // namespace

Replica::Replica(World& world, Host& host, const Incarnation& self)
    : world_(world), host_(host), self_(self), strategy_(world.strategy) {
  next_to_dial_ = host.index();
  choose_delay();
  make_guest();
}

Replica::~Replica() = default;

void Replica::make_guest() {
  forget_votes();
  comparison_.reset();
  shadow_.reset();
  rewrites_ = false;
  checkpointer_.reset();
  encoder_.reset();
  assembler_.reset();
  recorder_.reset();
  follower_.reset();
  delay_.reset();
  shelf_.reset();
  rebase_.reset();
  change_.reset();
  image_before_.reset();
  old_state_.clear();
  hold_.reset();
  to_follow_.clear();
  executing_.clear();
  flipped_ = false;
  log_.reset();
  gate_ = std::make_unique<SimGate>(world_.primary_options.epochs_held_max,
                                    [this](const Output& output, const FrameBytes& frame, Leave how,
                                           EpochId id) { left(output, frame, how, id); });
  gate_->to_guest = [this](const FrameBytes& frame) {
    if (const auto segment = test::tcp_fields(frame)) guest_->hear(*segment);
  };
  gate_->set_waiting_sink([this] {
    const auto told = [this] {
      // While it is compared, what the guest says waits for the backup's guest first.
      if (primary_ && (!comparison_ || comparison_->rests()))
        add(primary_->on_output_waiting(now()));
    };
    // An exact guest is amid a position now, where no log can be cut.
    world_.exact ? host_.later(Nanos{0}, told) : host_.post(told);
  });
  guest_ = std::make_unique<SimGuest>(world_.guest_pages, Random(world_.random.next(), 7),
                                      [this](const Packet& packet) {
                                        world_.oracle.on_sent(packet);
                                        gate_->send({packet, std::nullopt});
                                      });
  if (world_.clients)
    guest_->make_talkative(world_.talks, world_.own_permille, [this](const Said& said) {
      gate_->send({{}, said});
    });
  if (world_.exact) guest_->make_exact(world_.send_permille);
}

void Replica::left(const Output& output, const FrameBytes& frame, Leave how, EpochId id) {
  const auto sealed = how == Leave::by_epoch ? std::optional(id) : std::nullopt;
  if (!output.said) return world_.oracle.on_packet(self_, output.packet, sealed);
  if (how == Leave::by_comparison)
    left_compared(*output.said);
  else
    world_.oracle.on_frame(self_, sealed);
  world_.clients->on_frame(host_.index(), frame);
}

void Replica::on_client(const FrameBytes& frame) {
  if (primary_) gate_->on_world(frame);
}

Time Replica::now() const { return host_.local_now(); }

void Replica::begin_as_owner(const OwnershipRecord& record) {
  guest_->boot();
  (void)gate_->open();
  if (world_.clients) world_.clients->announced(host_.index());
  world_.oracle.on_birth(self_, true);
  become_primary(record, Epoch{1});
  go_on();
}

void Replica::begin_as_backup() {
  world_.oracle.on_birth(self_, false);
  backup_.emplace(self_, world_.backup_options);
  assembler_ =
      std::make_unique<checkpoint::EpochAssembler>(world_.guest, guest_->info(), world_.arena);
  dial();
}

void Replica::die() {
  dead_ = true;
  todo_.clear();
  // Mutant: libft dies, and whoever cleans up after it lets the guest's output through.
  if (world_.is(Mutant::open_gate_on_restart) && runs_guest()) (void)gate_->open();
  world_.oracle.on_death(self_);
}

void Replica::stood_still(Nanos length, bool shown) {
  for (ToDo& todo : todo_) todo.begun = true;
  if (shown && primary_ && primary_->peer() && length > world_.primary_options.stall_limit)
    ++stalls_;
}

// --- doing what the machines ask
// ------------------------------------------------------------------

// What leaves by comparison stops before the first of the actions.
void Replica::add(core::Actions actions) {
  if (primary_ && primary_->state() != core::PrimaryState::protecting) rest_comparison();
  for (auto& action : actions) todo_.push_back({std::move(action)});
}

void Replica::go_on() {
  if (doing_ || dead_) return;
  doing_ = true;
  while (!dead_) {
    while (!dead_ && !todo_.empty() && !host_.held() && !host_.interrupted()) {
      const ToDo todo = std::move(todo_.front());
      todo_.pop_front();
      perform(todo.action, todo.begun);
    }
    if (dead_ || host_.held()) break;
    read_frames();
    if (todo_.empty()) go_on_with_change();
    if (todo_.empty()) break;
  }
  doing_ = false;
  if (dead_) return;
  note_states();
  schedule_wake();
}

void Replica::schedule_wake() {
  std::optional<Time> at;
  if (primary_) at = primary_->wake_at();
  if (backup_) at = backup_->wake_at();
  const auto log_due = delay_ && !follower_full() ? delay_->due_at() : std::nullopt;
  if (log_due) at = std::min(at.value_or(*log_due), *log_due);
  if (const auto compared = comparison_ ? comparison_->wake_at() : std::nullopt) {
    const Time here = *compared - (world_.queue.now() - now());
    at = std::min(at.value_or(here), here);
  }
  if (!at) return;
  // What is overdue is tried again after a while: it waits for an answer, not for time.
  const Time due = std::max(*at, now() + (*at <= now() ? Nanos{Millis{2}} : Nanos{0}));
  if (wake_ && *wake_ <= due) return;
  wake_ = due;
  host_.later_unposted(due - now(), [this, due] {
    if (wake_ != due) return;
    host_.post([this, due] {
      if (wake_ != due) return;
      wake_.reset();
      watch_comparison();
      if (primary_) add(primary_->on_tick(now()));
      if (backup_ && (!in_doubt() || world_.is(Mutant::doubt_claims))) add(backup_->on_tick(now()));
      execute_due();
    });
  });
}

void Replica::note_states() {
  const auto state = primary_  ? to_string(primary_->state())
                     : backup_ ? to_string(backup_->state())
                               : "";
  if (state != state_told_) {
    state_told_ = state;
    world_.trace.add(host_.name(), state);
    if (state == "protecting" && was_unprotected_) ++world_.counters.reprotects;
    if (state == "protecting") was_unprotected_ = false;
    if (state == "fenced")  // Its operator starts it again, as a backup.
      host_.later_unposted(world_.random.between(Millis{50}, Millis{500}), [host = &host_] {
        host->crash(false);
        host->start();
      });
    if (state == "solo" && world_.queue.now() > Time{Millis{1}}) was_unprotected_ = true;
  }
  if (primary_)
    world_.oracle.check_bounds(
        primary_->inflight(), world_.primary_options.inflight_max, gate_->epochs_held(),
        world_.primary_options.epochs_held_max,
        connection_ ? world_.network.bytes_queued(*connection_, host_.index()) : 0);
}

void Replica::perform(const core::Action& action, bool begun) {
  std::visit(
      Overloaded{
          [&](const core::BeginSync&) { begin_sync(); },
          [&](const core::DropPeer& it) {
            world_.trace.add_text(host_.name(), "drops its peer", 0, 0, [&] { return it.why; });
            drop_connection();
            if (primary_ && !primary_->peer()) {
              peer_incarnation_.reset();
              host_.unwatch();
              guest_->stop_tracking();
              flight_.clear();
              recorder_.reset();
              rebase_.reset();
              image_before_.reset();
              comparison_.reset();
              ++sync_;
            }
          },
          [&](const core::TakeCheckpoint& it) { begin_checkpoint(it); },
          [&](const core::ReleaseOutput& it) { release(it.through, begun); },
          [&](const core::OpenOutput&) { open_gate(); },
          [&](const core::DiscardOutput&) {
            ++gate_turns_;
            gate_->discard();
          },
          [&](const core::ResumeGuest&) {
            if (guest_->alive()) (void)guest_->resume();
          },
          [&](const core::Held&) { leave_to_another(); },
          [&](const core::StopGuest& it) {
            world_.trace.add_text(host_.name(), "stops its guest", 0, 0, [&] { return it.why; });
            guest_->destroy();
            host_.unwatch();
          },
          [&](const core::ApplyEpoch& it) { apply(it.id); },
          [&](const core::StartOver& it) {
            world_.trace.add_text(host_.name(), "starts over", 0, 0, [&] { return it.why; });
            start_over();
          },
          [&](const core::StandDown& it) {
            world_.trace.add_text(host_.name(), "stands down", 0, 0, [&] { return it.why; });
            drop_connection();
            host_.unwatch();
            end_shadowing();
            guest_->destroy();
          },
          [&](const core::Promote& it) { promote(it); },
          [&](const core::SendMessage& it) { send(it.message, it.generation); },
          [&](const core::SwapRecord& it) { ask_swap(it.from, it.to); },
          [&](const core::ReadRecord&) { ask_read(); },
          [&](const core::Tell& it) {
            world_.trace.add_text(host_.name(), it.event, it.event.size(), 0,
                                  [&] { return it.text; });
          }},
      action);
}

void Replica::send(const wire::Message& message, Generation generation) {
  if (!connection_) return;
  if (const auto* ack = std::get_if<wire::Ack>(&message)) {
    world_.oracle.on_ack_sent(self_, ack->id);
    world_.trace.add(host_.name(), "acknowledges", ack->id.generation.value, ack->id.epoch.value);
  }
  world_.network.send(*connection_, host_.index(), wire::encode(message, world_.guest, generation));
}

// --- the arbiter
// ----------------------------------------------------------------------------------

void Replica::answered(bool definite, const OwnershipRecord& record, std::uint64_t asked_at_stall) {
  if (!definite) return;
  world_.oracle.on_definite(self_, record);
  asked_after_ = std::max(asked_after_, asked_at_stall);
}

void Replica::ask_swap(const OwnershipRecord& from, const OwnershipRecord& to) {
  // Mutants that believe in a victory that nobody granted.
  if (backup_ && world_.is(Mutant::promote_without_grant))
    return add(backup_->on_swap(now(), {SwapOutcome::won, to, {}}));
  if (primary_ && to.in_sync.size() == 1 && !to.ended && world_.is(Mutant::solo_without_swap))
    return add(primary_->on_swap(now(), {SwapOutcome::won, to, {}}));

  world_.trace.add_text(host_.name(), "asks", to.generation.value, to.in_sync.size(), [&] {
    return fmt::format("for generation {} ({} in sync{})", to.generation.value, to.in_sync.size(),
                       to.ended ? ", ended" : "");
  });
  world_.oracle.on_swap_asked(self_, to);
  if (backup_ && to.ended)
    world_.oracle.on_end_claimed(self_,
                                 executing_.empty() ? backup_->newest() : executing_.back().id);
  world_.arbiter.ask_swap(
      host_.index(), from, to,
      [this, host = &host_, question = ++question_, stall = stalls_, to,
       life = self_](const SwapAnswer& answer) {
        if (host->replica() != this || self_ != life) return;
        host->post([this, question, stall, to, life, answer] {
          if (question != question_ || self_ != life) return;
          SwapAnswer told = answer;
          // Its own swap in the record: nobody can have been acknowledged under it before the
          // stall.
          answered(told.outcome != SwapOutcome::unknown, told.record,
                   told.record == to ? stalls_ : stall);
          if (told.outcome == SwapOutcome::unknown && primary_ && to.in_sync.size() == 1 &&
              !to.ended && world_.is(Mutant::release_after_unknown_solo))
            told = {SwapOutcome::won, to, {}};
          if (told.outcome == SwapOutcome::unknown && backup_before_swap_ &&
              world_.is(Mutant::ack_after_unknown_swap)) {
            auto before = *backup_before_swap_;  // As if it had never asked.
            (void)before.on_read(now(), {ReadAnswer::Outcome::unknown, {}, {}});
            (void)before.on_alive(now());
            backup_ = before;
            return;
          }
          if (told.outcome == SwapOutcome::won && to.in_sync.size() == 1 && primary_ && !to.ended)
            ++world_.counters.solo_swaps;
          world_.trace.add(host_.name(), "is answered", static_cast<std::uint64_t>(told.outcome),
                           told.record.generation.value);
          if (primary_) add(primary_->on_swap(now(), told));
          if (backup_) add(backup_->on_swap(now(), told));
        });
      });
}

void Replica::ask_read() {
  backup_before_swap_ = backup_;
  world_.arbiter.ask_read(host_.index(), [this, host = &host_, question = ++question_,
                                          stall = stalls_, life = self_](const ReadAnswer& answer) {
    if (host->replica() != this || self_ != life) return;
    host->post([this, question, stall, life, answer] {
      if (question != question_ || self_ != life) return;
      const bool found = answer.outcome == ReadAnswer::Outcome::found;
      answered(found, answer.record, stall);
      world_.trace.add(host_.name(), "reads", found, answer.record.generation.value);
      if (primary_) add(primary_->on_read(now(), answer));
      if (backup_) add(backup_->on_read(now(), answer));
      if (outvoted_primary_ && backup_ && backup_->acknowledges())
        add({core::StartOver{"it outvoted the primary, and the record does not list it"}});
    });
  });
}

// --- connections
// ----------------------------------------------------------------------------------

void Replica::on_connection(ConnectionId connection, int peer, bool dialed) {
  if (dialed) {
    if (connection != dialed_) return world_.network.close(connection, host_.index());
    dialing_ = false;
    const bool wants = backup_ && !connection_ && backup_->state() != core::BackupState::claiming &&
                       backup_->state() != core::BackupState::swapping &&
                       backup_->state() != core::BackupState::stood_down;
    if (!wants) {
      world_.network.close(connection, host_.index());
      if (backup_) dial();  // It may yet find that it is not entitled.
      return;
    }
    connection_ = connection;
    peer_ = peer;
    welcomed_ = false;
    reader_ = std::make_unique<wire::FrameReader>(world_.guest);
    send_hello();
    return;
  }
  if (!primary_) return world_.network.close(connection, host_.index());
  strangers_[connection] = {peer, std::make_unique<wire::FrameReader>()};
}

void Replica::on_bytes(ConnectionId connection, std::span<const std::byte> bytes) {
  wire::FrameReader* reader = nullptr;
  const auto stranger = strangers_.find(connection);
  if (connection_ == connection)
    reader = reader_.get();
  else if (stranger != strangers_.end())
    reader = stranger->second.second.get();
  if (!reader) return;
  while (!bytes.empty()) {
    const auto space = reader->space();
    const std::size_t count = std::min(space.size(), bytes.size());
    std::memcpy(space.data(), bytes.data(), count);
    reader->stored(count);
    bytes = bytes.subspan(count);
  }
  if (stranger == strangers_.end()) return;  // go_on() reads it.
  const auto frame = reader->next();
  if (frame && !*frame) return;
  const int peer = stranger->second.first;
  auto own = std::move(stranger->second.second);  // The view lives as long as its reader.
  strangers_.erase(stranger);
  const auto message =
      frame ? wire::decode(**frame) : Result<wire::Message>(failure(frame.error()));
  const auto* hello = message ? std::get_if<wire::Hello>(&*message) : nullptr;
  if (!hello || !primary_) return world_.network.close(connection, host_.index());
  on_hello(connection, peer, *hello);
}

void Replica::on_closed(ConnectionId connection) {
  strangers_.erase(connection);
  if (connection_ == connection) return connection_lost("the connection broke");
  if (dialing_ && !connection_ && connection == dialed_) {
    dialing_ = false;
    if (backup_) dial();
  }
}

void Replica::drop_connection() {
  if (!connection_) return;
  world_.network.close(*connection_, host_.index());
  connection_.reset();
  rest_comparison();
  reader_.reset();
  probing_ = false;
  image_frames_.clear();
  if (rebase_) rebase_->lost = true;
  ++sync_;
  if (backup_) {
    if (world_.is(Mutant::executed_lost_with_connection))
      std::erase_if(executing_, [](const Executing& each) { return each.done; });
    if (delay_ && world_.is(Mutant::delayed_lost_with_connection)) (void)delay_->take_all();
    if (assembler_->partial()) ++world_.counters.partial_epochs;
    assembler_->drop_partial();
    logs_.drop_partial();
    if (!dialing_) dial();
  }
}

void Replica::connection_lost(const std::string& why) {
  if (!connection_) return;
  world_.trace.add_text(host_.name(), "disconnected", *connection_, 0, [&] { return why; });
  const bool partial = backup_ && assembler_->partial();
  drop_connection();
  if (primary_) add(primary_->on_disconnected(now(), why));
  if (!backup_) return;
  // Mutant: half an epoch is taken for a whole one.
  if (partial && world_.is(Mutant::apply_partial_epoch) && backup_->acknowledges() &&
      backup_->state() != core::BackupState::syncing) {
    EpochId id = backup_->newest();
    ++id.epoch.value;
    world_.oracle.on_complete(self_, id);
    add(backup_->on_epoch_complete(now(), id, false, false, false));
  }
  add(backup_->on_disconnected(now()));
}

void Replica::damaged(const Status& why) { connection_lost(why.to_string()); }

// --- frames
// ---------------------------------------------------------------------------------------

void Replica::read_frames() {
  while (connection_ && reader_ && todo_.empty()) {
    // What arrives while a backup does not acknowledge is left waiting, in order.
    if (backup_ && welcomed_ && !backup_->acknowledges() && !world_.is(Mutant::ack_while_claiming))
      return;
    if (shadow_ && shadow_->waits) return;
    if (!has_room() || (in_doubt() && !world_.is(Mutant::doubt_claims))) return;
    const auto frame = reader_->next();
    if (!frame) return damaged(frame.error());
    if (!*frame) return;
    if (!handle(**frame)) return;
  }
}

bool Replica::handle(const wire::Frame& frame) {
  if (wire::is_bulk(frame.header.type)) {
    if (backup_ && welcomed_)
      on_bulk(frame);
    else if (comparison_ && frame.header.type == wire::FrameType::frames_out)
      on_frames_out(frame);
    else
      damaged(Status(Code::corrupt, "bulk frames before Welcome"));
    return connection_.has_value();
  }
  const auto message = wire::decode(frame);
  if (!message) {
    damaged(message.error());
    return false;
  }
  if (primary_)
    on_message_of_backup(*message);
  else
    on_message_of_primary(*message, frame.header);
  return connection_.has_value();
}

// --- the owner, the detector
// ----------------------------------------------------------------------

void Replica::on_detector(const DetectorEvent& event, const Incarnation& about) {
  const bool suspected = event.kind == DetectorEvent::Kind::suspected;
  const bool alive = event.kind == DetectorEvent::Kind::alive;
  if (primary_ && suspected && primary_->peer() && *primary_->peer() == about)
    add(primary_->on_suspected(now(), "silent"));
  if (!backup_ || backup_->primary() != about) return;
  if (heard_in_doubt(suspected, alive)) return;
  if (suspected) add(backup_->on_suspected(now(), "silent", event.head_start));
  if (alive) add(backup_->on_alive(now()));
}

void Replica::run_guest() {
  if (shadow_ && shadow_->follower.from()) run_follower();
  if (!primary_) return;
  if (guest_->step(world_.send_permille))
    world_.oracle.on_guest_step(self_, *guest_, owner_resumed_);
  if (world_.random.chance(60)) guest_->receive(world_.random.next());
  if (primary_may_lose_bit() && guest_->runs() && world_.flips.chance(1)) lose_life();
}

void Replica::lose_life() {
  world_.trace.add(host_.name(), "its running guest loses the bit that keeps it alive");
  ++world_.counters.flips;
  guest_->lose_life();
  host_.post([this] {
    if (primary_) add(primary_->on_guest_ended(now()));
  });
}

void Replica::owner_ends_guest() {
  if (!primary_ || !guest_->runs()) return;
  world_.trace.add(host_.name(), "its guest ends");
  guest_->end();
  host_.post([this] {
    if (primary_) add(primary_->on_guest_ended(now()));
  });
}

void Replica::owner_pauses_guest(Nanos length) {
  if (!runs_guest()) return;
  world_.trace.add(host_.name(), "its guest is paused");
  guest_->owner_pauses();
  host_.later_unposted(length, [this] { owner_resumes_guest(); });
}

void Replica::owner_resumes_guest() {
  if (!primary_) return;
  owner_resumed_ = true;
  guest_->owner_resumes();
}

void Replica::guest_process_dies() {
  if (!primary_ || !guest_->alive()) return;
  world_.trace.add(host_.name(), "its guest's process dies");
  guest_->destroy();
  world_.oracle.on_death(self_);
  host_.post([this] {
    if (primary_) add(primary_->on_guest_lost(now(), "its process died"));
  });
}

void Replica::owner_switches_over() {
  host_.post([this] {
    if (!primary_ || !primary_->can_switch_over()) return;
    world_.trace.add(host_.name(), "is asked to switch over");
    add(primary_->switch_over(now()));
  });
}

void Replica::owner_unprotects() {
  host_.post([this] {
    if (primary_) add(primary_->unprotect(now()));
  });
}

void Replica::owner_fails_over() {
  host_.post([this] {
    if (!backup_ || in_doubt() || !backup_->can_fail_over()) return;
    world_.trace.add(host_.name(), "is asked to fail over");
    add(backup_->fail_over(now()));
  });
}

}  // namespace libft::sim
