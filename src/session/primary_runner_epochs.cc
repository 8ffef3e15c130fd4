// SPDX-License-Identifier: LGPL-2.1-or-later
// The epochs of a PrimaryRunner, from the pause to the release, and their verification.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "session/primary_runner.h"

namespace libft::session {
namespace {

constexpr std::size_t kPagesNamed = 16;
constexpr std::size_t kPagesBetweenSigns = 256;

PageSet without(const PageSet& pages, const PageSet& others) {
  PageSet rest;
  for (const PageRun& run : pages.runs())
    for (std::uint64_t i = 0; i < run.count; ++i)
      if (const PageNo page{run.first.value + i}; !others.contains(page)) rest.add(page);
  return rest;
}

// Where two memories differ, for people.
std::string describe(const std::vector<PageNo>& pages, const Guest& guest) {
  if (pages.empty()) return "";
  std::string text = fmt::format("; {} pages differ:", pages.size());
  for (std::size_t i = 0; i < std::min(pages.size(), kPagesNamed); ++i)
    text += fmt::format("{} {:#x} ({})", i == 0 ? "" : ",", pages[i].value, guest.about(pages[i]));
  return text + (pages.size() > kPagesNamed ? ", ..." : "");
}

}  // namespace

// `then` comes at once where the guest needs not be asked. Else the session goes on meanwhile, and
// what the pause was for may be over when the guest stands still: the gate has turned.
void PrimaryRunner::when_still(Still then) {
  if (!replica_.guest->info().cooperative) return then({}, Nanos{0});
  const auto answered = [this, then = std::move(then), turn = gate_turns_,
                         asked = context_.now()](const Status& status) {
    const Nanos handshake = context_.now() - asked;
    if (turn == gate_turns_) return then(status, handshake);
    if (status) let_run();
    then(Status(Code::cancelled, "what it was for is over"), handshake);
  };
  replica_.guest->prepare_pause(own_posting_.later<Status>(answered));
}

void PrimaryRunner::let_run() {
  if (core_.state() == core::PrimaryState::fenced || core_.state() == core::PrimaryState::ended)
    return;
  Status status = replica_.guest->pause();
  if (status) status = replica_.guest->resume();
  if (!status)
    context_.tell(LogLevel::error, "error", status.within("resume the guest").to_string(), {});
}

void PrimaryRunner::begin_checkpoint(const core::TakeCheckpoint& order) {
  if (change_first(order)) return;
  if (logging()) return cut_log(order);
  when_still([this, order](const Status& status, Nanos handshake) {
    if (status) return checkpoint(order, handshake);
    perform(core_.on_capture_failed(context_.now(), order.id, status.to_string()));
  });
}

void PrimaryRunner::checkpoint(const core::TakeCheckpoint& order, Nanos handshake) {
  if (order.begin_hold) {
    begin_comparison();
    if (!following_ && !comparison_) forward_input(order.id.epoch.next());
    context_.parts.guard->beat();
    context_.parts.guard->arm(context_.options.detector.interval *
                              context_.options.detector.missed_max);
  }
  if (inputs_) inputs_->set_epoch(order.id.epoch.next());
  const bool verify = verification_ && verification_->id.epoch.value == 0 && !following_;
  if (comparison_) comparison_->begin_checkpoint(order.id);
  checkpoint::CaptureOrder capture{.id = order.id,
                                   .begin_hold = order.begin_hold,
                                   .stay_paused = order.stay_paused || verify || following_,
                                   .guest_ended = order.guest_ended,
                                   .guest_paused = owner_paused_,
                                   .run = may_run_from(order)};
  if (comparison_) {
    capture.sealed = [&] {
      comparison_->captured(order.id, capture.run ? compare::Referee::Then::follower
                                                  : compare::Referee::Then::nobody);
    };
  }
  auto captured = checkpointer_->run(capture);
  if (!captured) rest_comparison();
  keep_rhythm();
  if (!captured) {
    perform(core_.on_capture_failed(context_.now(), order.id, captured.error().to_string()));
    return;
  }
  auto* epoch = *captured;
  epoch->times.handshake = handshake;
  if (following_) {
    if (const auto status = begin_log(order.id); !status)
      context_.tell(LogLevel::error, "error", status.within("begin the log").to_string(), {});
    if (!order.stay_paused) let_run_again();
  }
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
  // Copies of what comes in for the guest that runs there need not wait for it.
  connection_->send([this, epoch, connection = comparison_ ? connection_.get() : nullptr,
                     sent = posting_.later<EpochId, checkpoint::CapturedEpoch*,
                                           Result<checkpoint::EncodeStatistics>, Nanos>(
                         [this](EpochId id, checkpoint::CapturedEpoch* e,
                                const Result<checkpoint::EncodeStatistics>& encoded, Nanos took) {
                           on_sent(id, e, encoded, took);
                         })](Transport& transport) -> Status {
    const Time begun = context_.now();
    auto encoded = encoder_->encode(*epoch, [&](auto pieces) -> Status {
      if (connection) FT_TRY(connection->give_way());
      return transport.send(pieces);
    });
    const Status status = encoded ? Status() : encoded.error();
    sent(epoch->id, epoch, std::move(encoded), context_.now() - begun);
    return status;
  });
  if (verification_ && verification_->id == epoch->id) ask_to_verify();
}

void PrimaryRunner::ask_to_verify() {
  const auto runs = verification_->left_out.runs();
  const MemoryHash& memory = *verification_->memory;
  wire::Verify question{.id = verification_->id,
                        .memory_hash = memory.whole(),
                        .left_out = {runs.begin(), runs.end()},
                        .group_pages = memory.group_pages()};
  question.groups = memory.groups(question.group_pages);
  connection_->send(wire::encode(question, context_.parts.guest, core_.record().generation));
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
  count_sent(*encoded);
  for (auto& pending : pending_) {
    if (pending.record.id != id) continue;
    pending.record.encoded = *encoded;
    pending.record.times.replicate = took;
    pending.sent_at = context_.now();
    pending.sent = true;
  }
}

void PrimaryRunner::count_sent(const checkpoint::EncodeStatistics& encoded) {
  context_.statistics.update([&](SessionStatus& s) {
    s.bytes_sent += encoded.bytes;
    s.pages_sent += encoded.pages;
    s.pages_zero += encoded.zero;
    s.pages_delta += encoded.delta;
    s.pages_raw += encoded.raw;
    s.reference_bytes = encoded.reference_bytes;
  });
}

void PrimaryRunner::release(const core::ReleaseOutput& order) {
  const Time begun = context_.now();
  if (auto status = replica_.gate->release(order.through); !status)
    context_.tell(LogLevel::error, "error", status.within("release output").to_string(), {});
  if (comparison_) note_reload(comparison_->on_released(order.through));
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

void PrimaryRunner::verify(VerifyDone done) {
  if (verification_ || holding_)
    return done(failure(Code::refused, "a verification, or a hold, is under way"));
  if (!core_.is_protected()) return done(failure(Code::refused, "the guest is not protected now"));
  verification_ = Verification{std::move(done), {}, {}, {}};
  perform(core_.on_output_waiting(context_.now()));  // A checkpoint soon.
}

// Compared is what was captured: of the epoch's own pages the copies that travel, of all others
// what lies in the memory of the guest, which stands still for it. It stands still for itself:
// those who serve it may write into buffers that it lent them (Xen's dom0 does), and its hypervisor
// where it leaves events. What of that is reported belongs to the next epoch, and cannot be
// compared.
void PrimaryRunner::capture_for_verify(const checkpoint::CapturedEpoch& epoch, bool stay_paused) {
  auto& verification = *verification_;
  verification.id = epoch.id;
  MemoryHash& memory = verification.memory.emplace(replica_.guest->info());
  const std::size_t page_bytes = replica_.guest->info().page_bytes;
  std::size_t at = 0;
  for (const PageRun& run : epoch.pages.runs())
    for (std::uint64_t i = 0; i < run.count; ++i, at += page_bytes)
      memory.hash_copy(PageNo{run.first.value + i}, epoch.staging.subspan(at, page_bytes));
  while (memory.hash_some(kPagesBetweenSigns))
    if (detector_) detector_->progress();
  PageSet written;
  if (auto status = replica_.guest->take_written(written); !status)
    context_.tell(LogLevel::warning, "error", status.within("verify").to_string(), {});
  checkpointer_->want(written);
  verification.left_out = without(written, epoch.pages);
  memory.leave_out(verification.left_out);
  if (!stay_paused) let_run_again();
}

void PrimaryRunner::let_run_again() {
  if (auto status = replica_.guest->resume(); !status)
    context_.tell(LogLevel::error, "error", status.within("resume the guest").to_string(), {});
}

void PrimaryRunner::end_verification(Result<std::string> outcome) {
  const auto done = std::move(std::exchange(verification_, std::nullopt)->done);
  done(std::move(outcome));
}

void PrimaryRunner::on_verify(const wire::Verify& answer) {
  if (!verification_ || verification_->id != answer.id) return;
  const Verification& verification = *verification_;
  const std::uint64_t ours = verification.memory->whole();
  const auto text = fmt::format(
      "epoch {}: {} pages{}, hash {:016x} here, {:016x} at the backup", to_string(answer.id),
      replica_.guest->info().pages(),
      verification.left_out.empty()
          ? ""
          : fmt::format(" without {} that were written meanwhile", verification.left_out.pages()),
      ours, answer.memory_hash);
  if (ours == answer.memory_hash) return end_verification(text);
  end_verification(failure(
      Code::corrupt, "the memories differ: " + text +
                         describe(verification.memory->unlike(answer.pages), *replica_.guest)));
}

}  // namespace libft::session
