// SPDX-License-Identifier: LGPL-2.1-or-later
// Hybrid's part of the runner: images that travel beside the logs, and the shelf of the logs since.
#include <algorithm>
#include <utility>

#include "sim/host.h"
#include "sim/replica.h"
#include "sim/world.h"

namespace libft::sim {

// --- the primary's
// --------------------------------------------------------------------------------

// The guest then stands, and its gate is sealed: the log is cut next. Nothing: no image is due.
checkpoint::CapturedEpoch* Replica::capture_image(const core::TakeCheckpoint& order) {
  if (strategy_ != Strategy::hybrid || rebase_ || !connection_ || !peer_incarnation_ ||
      order.stay_paused || order.guest_ended || now() < rebase_at_)
    return nullptr;
  rebase_at_ = now() + world_.rebases.between(Millis{10}, Millis{150});
  const auto captured = checkpointer_->run({.id = order.id, .stay_paused = true, .rebase = true});
  if (!captured) return nullptr;
  if (world_.is(Mutant::rebase_off_the_cut)) {
    (void)guest_->resume();
    guest_->step(1000);
    (void)guest_->pause();
  }
  if (change_) change_->rebased = true;
  world_.trace.add(host_.name(), "captures an image", order.id.epoch.value);
  return *captured;
}

// Piece by piece, with logs between them.
void Replica::send_image(checkpoint::CapturedEpoch* image) {
  rebase_ = Rebase{image->id, image->pages};
  const auto sent = encoder_->encode(*image, [this](auto pieces) {
    for (const auto& piece : pieces) image_frames_.emplace_back(piece.begin(), piece.end());
    return Status();
  });
  checkpointer_->give_back(image);
  if (!sent) return damaged(sent.error());
  if (world_.is(Mutant::rebase_before_its_log))
    while (!image_frames_.empty()) send_image_frame(*connection_);
  else
    send_image_frame(*connection_);
}

void Replica::send_image_frame(ConnectionId connection) {
  if (connection_ != connection || image_frames_.empty()) return;
  const std::vector<std::byte> frame = std::move(image_frames_.front());
  image_frames_.pop_front();
  const std::span<const std::byte> piece(frame);
  (void)to_network({&piece, 1});
  if (world_.is(Mutant::rebase_before_its_log)) return;
  host_.later(world_.rebases.between(Nanos{0}, Millis{20}),
              [this, connection] { send_image_frame(connection); });
}

void Replica::on_rebased(EpochId image) {
  if (!rebase_ || (rebase_->id != image && (!rebase_->lost || rebase_->adopted))) return;
  if (rebase_->id != image) {
    if (!world_.is(Mutant::rebase_loses_pages)) checkpointer_->carry(rebase_->pages);
    encoder_->resume(image);
  }
  rebase_.reset();
}

// --- the backup's
// ---------------------------------------------------------------------------------

void Replica::on_image(EpochId id) {
  const bool covered = shelf_ && shelf_->covers(id);
  if (!covered && !world_.is(Mutant::rebase_before_its_log) &&
      !world_.is(Mutant::shelf_emptied_at_begin))
    return world_.report(rule::kReplay, "an image came whose log is not here");
  ++world_.counters.rebases;
  world_.trace.add(host_.name(), "rebases", id.generation.value, id.epoch.value);
  if (world_.is(Mutant::rebase_with_old_state) || world_.is(Mutant::rebase_unapplied))
    old_state_.assign(assembler_->state().begin(), assembler_->state().end());
  if (world_.is(Mutant::rebase_unapplied)) {
    std::vector<std::vector<std::byte>> before;
    for (const MemoryRegion& region : guest_->info().memory)
      before.emplace_back(region.bytes.begin(), region.bytes.end());
    assembler_->apply();
    for (std::size_t n = 0; n < before.size(); ++n)
      std::ranges::copy(before[n], guest_->info().memory[n].bytes.begin());
  } else {
    assembler_->apply();
  }
  world_.oracle.on_applied(
      self_, id,
      SimGuest::hash(guest_->info(), old_state_.empty() ? assembler_->state() : old_state_));
  cut_shelf(id);
  send(wire::Followed{id}, backup_->generation());
}

void Replica::cut_shelf(EpochId id) {
  const bool late = world_.is(Mutant::shelf_cut_late), early = world_.is(Mutant::shelf_cut_early);
  if (!late && !early && !world_.is(Mutant::shelf_emptied_whole) && shelf_->covers(id))
    return shelf_->rebase(id);
  auto logs = shelf_->take();
  shelf_.emplace(id);
  if (world_.is(Mutant::shelf_emptied_whole)) return;
  bool first = true;
  for (auto& log : logs) {
    if (log.id < id || (log.id == id && !early)) continue;
    if (late && std::exchange(first, false)) continue;
    (void)shelf_->keep(std::move(log));
  }
}

// A take-over, or a change: the image, and then what was logged since.
void Replica::take_from_shelf() {
  if (follower_) {  // Still on its way to the image.
    for (auto& log : shelf_->take()) to_follow_.push_back(std::move(log));
    return shelf_.reset();
  }
  const auto state =
      old_state_.empty() ? assembler_->state() : std::span<const std::byte>(old_state_);
  if (const Status loaded = guest_->load_state(state); !loaded)
    return world_.report(rule::kReplay, loaded.to_string());
  auto logs = shelf_->take();
  if (world_.is(Mutant::promote_the_image)) logs.clear();
  if (!logs.empty() && logs.front().mark.from != *guest_->position())
    return world_.report(rule::kReplay, "the log does not begin where the image is");
  world_.oracle.on_executed(self_, shelf_->image(), *guest_);
  shelf_.reset();
  follower_ = std::make_unique<replay::Follower>(*guest_);
  to_follow_ = std::move(logs);
}

}  // namespace libft::sim
