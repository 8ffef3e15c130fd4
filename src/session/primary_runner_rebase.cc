// SPDX-License-Identifier: LGPL-2.1-or-later
// The checkpoints of a hybrid PrimaryRunner: now and then one is taken at an epoch's cut and
// travels beside the logs. Nothing waits for it, neither output nor the logs behind it.
#include <utility>

#include "session/primary_runner.h"

namespace libft::session {

// One at a time: each is coded against the image that the one before it made.
bool PrimaryRunner::rebase_due(const core::TakeCheckpoint& order) const {
  if (!hybrid() || following_->rebase || !connection_ || order.stay_paused || order.guest_ended ||
      !checkpointer_->slot_free())
    return false;
  const bool verify = verification_ && verification_->id.epoch.value == 0;
  const bool for_change = change_ && following_->rebased_at < change_->asked_at;
  return verify || for_change ||
         context_.now() - following_->rebased_at >= context_.options.rebase_interval;
}

// The log is cut in the checkpoint's pause: both end at the same position.
Status PrimaryRunner::capture_and_cut(const core::TakeCheckpoint& order, Cut& cut) {
  following_->rebased_at = context_.now();
  const auto captured = checkpointer_->run(
      {.id = order.id, .stay_paused = true, .guest_paused = owner_paused_, .rebase = true});
  if (!captured) {  // The log goes on without it.
    context_.tell(LogLevel::warning, "rebase_failed", captured.error().to_string(), {});
    return seal_and_cut(order, cut);
  }
  checkpoint::CapturedEpoch* const image = *captured;
  auto log = cut_recorder(order, WithHash::no);
  if (log && verification_ && verification_->id.epoch.value == 0) capture_for_verify(*image, true);
  let_run_again();
  image->times.resume = context_.now() - image->resumed_at;
  if (!log) {
    checkpointer_->want(image->pages);
    checkpointer_->give_back(image);
    return log.error();
  }
  cut = {std::move(*log), image};
  following_->rebase = {order.id, image->pages};
  return {};
}

void PrimaryRunner::send_rebase(checkpoint::CapturedEpoch* image) {
  connection_->send(
      [this, image, connection = connection_.get(),
       sent = posting_.later<checkpoint::CapturedEpoch*, Result<checkpoint::EncodeStatistics>>(
           [this](checkpoint::CapturedEpoch* epoch,
                  const Result<checkpoint::EncodeStatistics>& encoded) {
             checkpointer_->give_back(epoch);
             if (encoded) count_sent(*encoded);
           })](Transport& transport) -> Status {
        auto encoded = encoder_->encode(*image, [&](auto pieces) -> Status {
          FT_TRY(connection->give_way());
          return transport.send(pieces);
        });
        const Status status = encoded ? Status() : encoded.error();
        sent(image, std::move(encoded));
        return status;
      });
  if (verification_ && verification_->id == image->id) ask_to_verify();
}

// The backup's image is as of that epoch: after a rebase, or because it is back and says so. What
// was lost with its connection goes with the next rebase, raw: the reference image is ahead of it.
void PrimaryRunner::on_rebased(EpochId image) {
  auto& rebase = following_->rebase;
  if (!rebase || (rebase->id != image && (!rebase->lost || rebase->adopted))) return;
  if (rebase->id != image) {
    checkpointer_->carry(rebase->pages);
    encoder_->resume(image);
  }
  rebase.reset();
}

}  // namespace libft::session
