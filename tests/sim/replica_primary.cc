// SPDX-License-Identifier: LGPL-2.1-or-later
// The primary's half of the runner: synchronisation, checkpoints, output.
#include <fmt/format.h>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {
namespace {

wire::GuestShape shape_of(const GuestInfo& info) {
  wire::GuestShape shape;
  shape.driver = info.driver;
  shape.description = info.description;
  shape.compatibility = info.compatibility;
  shape.page_bytes = info.page_bytes;
  shape.vcpus = info.vcpus;
  for (const auto& region : info.memory)
    shape.memory.push_back({region.name, region.first, region.bytes.size() / info.page_bytes});
  return shape;
}

std::span<const std::byte> page_bytes(const GuestInfo& info, PageNo page) {
  for (const auto& region : info.memory) {
    const std::uint64_t pages = region.bytes.size() / info.page_bytes;
    if (page.value < region.first.value || page.value >= region.first.value + pages) continue;
    return region.bytes.subspan((page.value - region.first.value) * info.page_bytes,
                                info.page_bytes);
  }
  return {};
}

constexpr std::size_t kSyncPagesAtOnce = 6;
constexpr unsigned kSyncRoundsMax = 3;

}  // namespace

void Replica::become_primary(const OwnershipRecord& record, Epoch next) {
  primary_.emplace(self_, record, next, world_.primary_options, now());
  guest_ran_since_ = now();
}

void Replica::on_hello(ConnectionId connection, int peer, const wire::Hello& hello) {
  // The same backup dials again before its old connection was found dead here.
  if (connection_ && primary_->peer() && *primary_->peer() == hello.backup) {
    connection_lost("the backup dials anew");
    host_.post([this, connection, peer, hello] { on_hello(connection, peer, hello); });
    return;
  }
  const auto welcome = primary_->consider(hello);
  if (!welcome.accepted || connection_) {
    world_.trace.add_text(host_.name(), "refuses", static_cast<std::uint64_t>(peer), 0,
                          [&] { return welcome.why; });
    const wire::Refuse refuse{Code::refused, welcome.why};
    world_.network.send(connection, host_.index(),
                        wire::encode(refuse, world_.guest, primary_->record().generation));
    return world_.network.close(connection, host_.index());
  }
  world_.trace.add(host_.name(), welcome.resume ? "welcomes back" : "welcomes",
                   static_cast<std::uint64_t>(peer), hello.newest_complete.epoch.value);
  connection_ = connection;
  peer_ = peer;
  peer_incarnation_ = hello.backup;
  reader_ = std::make_unique<wire::FrameReader>(world_.guest);
  host_.watch(peer, hello.backup, core::Watched::backup);
  wire::Welcome answer;
  answer.primary = self_;
  answer.shape = shape_of(guest_->info());
  answer.resume = welcome.resume;
  answer.features |= features();
  send(answer, primary_->record().generation);
  if (welcome.resume) {
    ++world_.counters.resumes;
    carry_what_lacks(hello.newest_complete);
  }
  add(primary_->on_backup(now(), hello));
  if (welcome.resume) send_lacking_logs(hello.newest_complete);
  // What the guest said since the connection broke, nobody compares any more.
  if (welcome.resume && comparison_) add(primary_->on_output_waiting(now()));
}

// What the backup lacks of the epochs captured since goes with the next one, raw: the reference
// image is that of the last epoch sent, not of the last that arrived.
void Replica::carry_what_lacks(const EpochId& newest_complete) {
  if (goes_on_with_logs(newest_complete)) return;
  const bool older = image_before_ && newest_complete.epoch < image_before_->first;
  encoder_->resume(older ? image_before_->second : newest_complete);
  for (const Flight& flight : flight_)
    if (flight.id.epoch > newest_complete.epoch && !world_.is(Mutant::forget_carried_pages))
      checkpointer_->carry(flight.pages);
}

// --- the first synchronisation
// --------------------------------------------------------------------

void Replica::make_checkpointer() {
  auto made = checkpoint::Checkpointer::make(*guest_, *gate_, world_.arena, world_.queue,
                                             world_.primary_options.inflight_max + 1, 0);
  if (!made) return world_.report("simulation", made.error().to_string());
  checkpointer_ = std::move(*made);
  encoder_ = std::make_unique<checkpoint::EpochEncoder>(
      world_.guest, guest_->info(), world_.executor, checkpoint::EncoderOptions{});
}

void Replica::begin_sync() {
  (void)guest_->start_tracking();
  make_checkpointer();
  flight_.clear();
  recorder_.reset();
  rebase_.reset();
  if (strategy_ != Strategy::checkpoint && strategy_ != Strategy::compare)
    recorder_ = std::make_unique<replay::Recorder>(*guest_);
  sync_pages_.clear();
  sync_round_ = 0;
  for (const auto& region : guest_->info().memory)
    for (std::uint64_t n = 0; n < region.bytes.size() / guest_->info().page_bytes; ++n)
      sync_pages_.push_back(PageNo{region.first.value + n});
  sync_chunk(++sync_);
}

void Replica::sync_chunk(std::uint64_t serial) {
  if (serial != sync_ || !primary_ || !connection_) return;
  add(primary_->on_sync_progress(now()));
  for (std::size_t n = 0; n < kSyncPagesAtOnce && !sync_pages_.empty(); ++n) {
    const PageNo page = sync_pages_.front();
    sync_pages_.erase(sync_pages_.begin());
    (void)encoder_->encode_sync(primary_->record().generation, page,
                                page_bytes(guest_->info(), page),
                                [this](auto pieces) { return to_network(pieces); });
  }
  host_.later(world_.random.between(std::chrono::microseconds{200}, Millis{3}), [this, serial] {
    if (sync_pages_.empty())
      end_of_round(serial);
    else
      sync_chunk(serial);
  });
}

void Replica::end_of_round(std::uint64_t serial) {
  if (serial != sync_ || !primary_ || !connection_ || probing_) return;
  if (++sync_round_ < kSyncRoundsMax) {
    PageSet written;
    (void)guest_->take_written(written);
    for (const PageRun& run : written.runs())
      for (std::uint64_t n = 0; n < run.count; ++n)
        sync_pages_.push_back(PageNo{run.first.value + n});
    return sync_chunk(serial);
  }
  std::vector<std::byte> state;
  if (!guest_->pause()) return;
  (void)guest_->save_state();
  (void)guest_->resume();
  (void)guest_->fetch_state(state);
  probing_ = true;
  (void)encoder_->encode_probe(primary_->record().generation, state,
                               [this](auto pieces) { return to_network(pieces); });
}

Status Replica::to_network(std::span<const std::span<const std::byte>> pieces) {
  if (!connection_) return Status(Code::peer_lost, "not connected");
  std::vector<std::byte> frame;
  for (const auto& piece : pieces) {
    frame.assign(piece.begin(), piece.end());
    // Cut anywhere: what is one write here is several segments on a network.
    while (frame.size() > 100) {
      const auto cut = static_cast<std::ptrdiff_t>(1 + world_.random.below(frame.size() - 1));
      world_.network.send(*connection_, host_.index(), {frame.begin(), frame.begin() + cut});
      frame.erase(frame.begin(), frame.begin() + cut);
      if (world_.random.chance(700)) break;
    }
    world_.network.send(*connection_, host_.index(), std::move(frame));
  }
  return {};
}

// --- checkpoints
// ----------------------------------------------------------------------------------

// A cooperative guest is asked, and the session goes on meanwhile: by the time it stands still,
// what the checkpoint was for may be over.
void Replica::begin_checkpoint(const core::TakeCheckpoint& order) {
  if (change_first(order)) return;
  if (logging()) return cut_log(order);
  if (!world_.cooperative) return take_checkpoint(order);
  world_.trace.add(host_.name(), "asks its guest", order.id.generation.value, order.id.epoch.value);
  const Nanos handshake = world_.handshakes.between(Millis{1}, Millis{400});
  host_.later(handshake, [this, order, turn = gate_turns_] {
    if (!primary_) return;
    if (turn == gate_turns_ || world_.is(Mutant::stale_checkpoint)) return take_checkpoint(order);
    add(primary_->on_capture_failed(now(), order.id, "what it was for is over"));
  });
}

void Replica::take_checkpoint(const core::TakeCheckpoint& order) {
  if (order.begin_hold) begin_comparison();
  if (comparison_) comparison_->begin_checkpoint(order.id);
  const bool run = may_run_from(order);
  checkpoint::CaptureOrder capture{.id = order.id,
                                   .begin_hold = order.begin_hold,
                                   .stay_paused = order.stay_paused,
                                   .guest_ended = order.guest_ended,
                                   .run = run};
  checkpoint_ = order.id;
  if (comparison_) {
    capture.sealed = [&] {
      comparison_->captured(
          order.id, run ? compare::Referee::Then::follower : compare::Referee::Then::nobody);
    };
  }
  gate_->never_hold = world_.is(Mutant::release_without_holding);
  gate_->seal_late = world_.is(Mutant::seal_after_resume);
  const bool paused = guest_->owner_paused();
  const auto captured_epoch = checkpointer_->run(capture);
  if (!captured_epoch) rest_comparison();
  keep_rhythm();
  if (!captured_epoch) {
    world_.trace.add_text(host_.name(), "cannot capture", order.id.epoch.value, 0,
                          [&] { return captured_epoch.error().to_string(); });
    return add(primary_->on_capture_failed(now(), order.id, captured_epoch.error().message()));
  }
  checkpoint::CapturedEpoch* const epoch = *captured_epoch;
  epoch->guest_paused = paused;
  if (recorder_) (void)recorder_->begin(order.id);
  log_begun_at_ = order.id.epoch;
  rebase_at_ = now() + world_.rebases.between(Millis{10}, Millis{150});
  world_.oracle.on_captured(
      order.id, {guest_->hash(), guest_->counter(), guest_->chain(), order.guest_ended, paused});
  if (gate_->seal_late) {
    guest_->step(1000);
    gate_->finish_seal();
  }
  ++world_.counters.epochs;
  world_.trace.add(host_.name(), "captures", order.id.generation.value, order.id.epoch.value);
  flight_.push_back({order.id, epoch->pages});
  host_.occupy(world_.random.between(std::chrono::microseconds{200}, Millis{2}),
               [this, epoch] { captured(epoch); });
}

void Replica::captured(checkpoint::CapturedEpoch* epoch) {
  const EpochId id = epoch->id;
  core::LastCheckpoint last;
  last.resumed_at = now();
  last.stopped = Millis{1};
  last.ran = now() - guest_ran_since_;
  last.pages = epoch->pages.pages();
  guest_ran_since_ = now();
  add(primary_->on_captured(now(), id, last));
  replicate(*epoch);
  checkpointer_->give_back(epoch);
  // Mutants that do not wait for the backup.
  if (world_.is(Mutant::release_before_ack)) add({core::ReleaseOutput{id}});
  if (world_.is(Mutant::join_before_image_complete) &&
      primary_->state() == core::PrimaryState::joining)
    add(primary_->on_ack(now(), id));
}

void Replica::replicate(checkpoint::CapturedEpoch& epoch) {
  if (!connection_ || !peer_incarnation_) return;
  const auto sent = encoder_->encode(epoch, [this](auto pieces) { return to_network(pieces); });
  if (!sent) damaged(sent.error());
}

void Replica::on_message_of_backup(const wire::Message& message) {
  if (const auto* ack = std::get_if<wire::Ack>(&message)) {
    EpochId id = ack->id;
    if (peer_incarnation_) world_.oracle.on_ack_heard(self_, *peer_incarnation_, id);
    if (world_.is(Mutant::ignore_generation_in_ack)) id.generation = primary_->record().generation;
    world_.trace.add(host_.name(), "hears", id.generation.value, id.epoch.value);
    if (recorder_) recorder_->acknowledged(ack->id);
    while (!flight_.empty() && flight_.front().id.epoch <= id.epoch) flight_.pop_front();
    add(primary_->on_ack(now(), id));
  } else if (const auto* hold = std::get_if<wire::Hold>(&message)) {
    on_hold(*hold);
  } else if (const auto* followed = std::get_if<wire::Followed>(&message)) {
    if (comparison_) (void)comparison_->on_followed(followed->id);
    on_rebased(followed->id);
  } else if (const auto* probe = std::get_if<wire::ProbeAnswer>(&message)) {
    if (!probing_) return;
    probing_ = false;
    if (probe->loadable)
      add(primary_->on_sync_converged(now()));
    else
      connection_lost(probe->text);
  } else if (std::get_if<wire::Bye>(&message) || std::get_if<wire::Refuse>(&message)) {
    connection_lost("the backup leaves");
  }
}

// --- output
// ---------------------------------------------------------------------------------------

void Replica::release(EpochId through, bool begun) {
  world_.trace.add(host_.name(), "releases", through.generation.value, through.epoch.value);
  world_.oracle.on_release(self_, through, primary_->record(), asked_after_ < stalls_ && !begun);
  (void)gate_->release(through);
  if (comparison_) (void)comparison_->on_released(through);
}

void Replica::open_gate() {
  ++gate_turns_;
  world_.trace.add(host_.name(), "opens its gate");
  world_.oracle.on_open(self_);
  (void)gate_->open();
  if (world_.clients) world_.clients->announced(host_.index());
}

}  // namespace libft::sim
