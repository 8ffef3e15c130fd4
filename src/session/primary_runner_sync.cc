// SPDX-License-Identifier: LGPL-2.1-or-later
// The first synchronisation of a PrimaryRunner: rounds of pages while the guest runs, and a device
// state that the backup tries.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "session/primary_runner.h"
#include "session/strategy.h"

namespace libft::session {

void PrimaryRunner::fail_sync(const Status& status) {
  context_.tell(LogLevel::error, "sync_failed", status.to_string(), {});
  drop_peer(status.message());
  perform(core_.on_disconnected(context_.now(), status.to_string()));
}

void PrimaryRunner::begin_sync() {
  if (auto status = replica_.guest->start_tracking(); !status)
    return fail_sync(status.within("begin to track written pages"));
  tracking_ = true;
  if (is_logged(context_.options.strategy))
    following_ = std::make_unique<Following>(*replica_.exact, context_.options);
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
  connection_->send(
      [this, pages, generation = core_.record().generation,
       progress = posting_.later([this] { perform(core_.on_sync_progress(context_.now())); }),
       done = posting_.later([this] { on_round_done(); })](Transport& transport) {
        const auto& info = replica_.guest->info();
        const auto status = send_round(info, pages, generation, *encoder_, [&](auto pieces) {
          std::uint64_t bytes = 0;
          for (const auto& piece : pieces) bytes += piece.size();
          context_.statistics.update([&](SessionStatus& s) {
            s.bytes_sent += bytes;
            s.sync_pages_sent = std::min(s.sync_pages_total, s.sync_pages_sent + kSyncPagesAPiece);
          });
          const auto sent = transport.send(pieces);
          if (sent) progress();
          return sent;
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
  when_still([this](const Status& status, Nanos) {
    if (!sync_ || status.code() == Code::cancelled) return;
    if (!status) return fail_sync(status.within("pause"));
    send_probe();
  });
}

void PrimaryRunner::send_probe() {
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

}  // namespace libft::session
