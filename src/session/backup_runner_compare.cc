// SPDX-License-Identifier: LGPL-2.1-or-later
// The BackupRunner of a guest that runs here, too (strategy compare): as a follower of its newest
// checkpoint, which nobody hears but the primary. What it says has left when the primary said the
// same: so it is the guest from the moment at which `followed` is said, and the checkpoint
// that is acknowledged next is from then on.
#include <fmt/format.h>

#include <utility>

#include "session/backup_runner.h"
#include "session/sync.h"

namespace libft::session {

// Of a standby that was made just now, the connector's thread: nobody else has it yet.
Status BackupRunner::begin_speculation() {
  if (speculates_) return {};
  Status status(Code::unsupported,
                replica_.ahead == nullptr
                    ? fmt::format("a standby of a {} guest cannot run beside its image",
                                  replica_.guest->info().driver)
                    : "the gate of this standby cannot lead what it says to the primary");
  if (replica_.ahead && replica_.compared && replica_.input)
    status = replica_.ahead->begin_speculation();
  speculates_ = status.ok();
  if (speculates_) return {};
  // It dials again without, and is given plain checkpoints.
  context_.tell(LogLevel::warning, "cannot_compare", status.to_string(), {});
  can_compare_ = false;
  posting_.later([this] { announce(); })();
  return status;
}

// A guest that was a plain standby until now keeps its image, which moves.
Status BackupRunner::begin_to_shadow() {
  if (shadow_) return {};
  FT_TRY(begin_speculation());
  if (assembler_) assembler_->move_to(replica_.guest->info());
  shadow_ =
      std::make_unique<Shadow>(replica_, context_, posting_.later([this] { send_said(); }),
                               posting_.later<ReloadThread::Order, Status, Nanos>(
                                   [this](const ReloadThread::Order& order, const Status& status,
                                          Nanos took) { on_reloaded(order, status, took); }));
  return {};
}

// An epoch is whole and acknowledged. What reads the image on another thread goes first.
void BackupRunner::apply_shadowed(const checkpoint::CompleteEpoch& epoch) {
  if (!shadow_->reload.idle()) {
    shadow_->waits = epoch;
    return;
  }
  apply_to_image(epoch);
  if (!epoch.run && !shadow_->follower.from()) return;
  ReloadThread::Order order{epoch.id, std::nullopt};
  if (epoch.run) order.state.emplace(assembler_->state().begin(), assembler_->state().end());
  shadow_->reload.give(std::move(order));
}

// The synchronisation wrote any page, and told nobody; a state is tried upon all of them.
void BackupRunner::prepare_image_to_probe() {
  shadow_->reload.wait_until_idle();
  replica_.ahead->image_changed(all_pages(replica_.guest->info()));
}

// So did the one that this epoch completes.
void BackupRunner::apply_to_image(const checkpoint::CompleteEpoch& epoch) {
  const PageSet pages = epoch.first ? all_pages(replica_.guest->info()) : assembler_->pages();
  apply_image();
  shadow_->follower.applied(epoch.id, pages);
}

void BackupRunner::on_reloaded(const ReloadThread::Order& order, const Status& status, Nanos took) {
  if (!shadow_ || !shadow_->reload.idle()) return;
  if (shadow_->waits) {
    apply_shadowed(*std::exchange(shadow_->waits, std::nullopt));
  } else if (!status) {
    context_.tell(LogLevel::warning, "follower_failed", status.to_string(), {});
  } else if (order.state && shadow_->follower.from() == order.id) {
    context_.statistics.add_reload(took);
    context_.statistics.update([](SessionStatus& s) { ++s.compare.runs; });
    if (connected_ && core_.acknowledges()) send(wire::Followed{order.id}, core_.generation());
    context_.tell(LogLevel::debug, "follows", to_string(order.id), {});
    send_said();
  }
  handle_waiting();
}

// A replica that wants to take over says nothing more that lets the primary's output go.
void BackupRunner::send_said() {
  if (!shadow_ || !connected_ || !core_.acknowledges()) return;
  const auto frames = shadow_->follower.take_said();
  if (!frames.empty()) (void)connector_->send(frames);
}

void BackupRunner::on_frames_in(const wire::Frame& frame) {
  const Status status = shadow_ ? shadow_->follower.on_frames_in(frame)
                                : Status(Code::corrupt, "frames for a follower, and none is here");
  if (!status) on_corrupt(status);
}

// The image is given up; whoever runs from it ends.
void BackupRunner::end_shadowing() {
  if (!shadow_) return;
  shadow_->waits.reset();
  shadow_->reload.give({{}, std::nullopt});
}

// The follower, if it runs from the newest checkpoint: then what it said may have left. Else that
// checkpoint.
Status BackupRunner::load_newest() {
  if (!shadow_) return replica_.guest->load_state(assembler_->state());
  shadow_->reload.wait_until_idle();
  if (shadow_->waits) apply_to_image(*std::exchange(shadow_->waits, std::nullopt));
  if (shadow_->follower.from() == core_.newest()) return {};
  return shadow_->follower.load(assembler_->state());
}

void BackupRunner::take_over_shadowed() {
  if (!shadow_) return;
  for (const auto& frame : waiting_)
    if (frame.header.type == wire::FrameType::frames_in)
      (void)shadow_->follower.on_frames_in(
          frame.view());  // The last that came; nothing rests on it.
  context_.rewrites = shadow_->follower.take_over(core_.newest());
}

}  // namespace libft::session
