// SPDX-License-Identifier: LGPL-2.1-or-later
// The backup of a PrimaryRunner comes and goes: connections, welcome, heartbeats.
#include <fmt/format.h>

#include <algorithm>

#include "os/random.h"
#include "session/first_frame.h"
#include "session/primary_runner.h"
#include "session/shape.h"
#include "session/strategy.h"

namespace libft::session {

void PrimaryRunner::offer(std::unique_ptr<Transport> connection, std::vector<std::byte> received) {
  const auto first = read_hello(context_.parts.guest, received);
  if (!first) return refuse(*connection, first.error().code(), first.error().message());
  const auto& hello = first->hello;
  if ((hello.features & wire::feature::votes) != 0)
    return refuse(*connection, Code::refused,
                  "this host is the primary, and a witness votes at the backup: remedy: name "
                  "the backup's address, or both, with --peer");
  if (const auto status = suits(hello, replica_.guest->info()); !status)
    return refuse(*connection, status.code(), status.message());
  if (connection_ && core_.peer() && *core_.peer() == hello.backup) {
    // It would not dial if it still had the old one, which may look open from here for long.
    disconnect();
    perform(core_.on_disconnected(context_.now(), "the backup dialled anew"));
  }
  if (const auto features = features_of(strategy_with(hello.features));
      (hello.features & features) != features)
    return refuse(*connection, Code::unsupported,
                  fmt::format("the backup's libft does not know the strategy {}: install the same "
                              "release on both hosts",
                              to_string(context_.options.strategy)));
  const auto answer = core_.consider(hello);
  if (!answer.accepted) return refuse(*connection, Code::refused, answer.why);
  received.erase(received.begin(), received.begin() + static_cast<std::ptrdiff_t>(first->bytes));
  welcome(std::move(connection), std::move(received), hello, answer.resume);
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
  peer_features_ = hello.features;
  if (resume) {
    continue_from(hello.newest_complete);
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
  const auto bulk = [this](const wire::Frame& frame) -> Status {
    Comparison* const comparison = listening_;
    if (comparison && frame.header.type == wire::FrameType::frames_out)
      return comparison->on_frames_out(frame);
    return Status(Code::corrupt, "the backup sent a frame that only a primary sends");
  };
  connection_ = std::make_unique<Connection>(
      std::move(transport), context_.parts.guest, std::move(rest),
      Connection::Sinks{.message = posting_.later<wire::Message>(
                            [this](const wire::Message& message) { on_message(message); }),
                        .broken = lost,
                        .bulk = bulk});
  wire::Welcome answer;
  answer.version = std::min(wire::kVersion, hello.version_max);
  answer.features = hello.features & (wire::feature::delta_pages | wire::feature::delta_state |
                                      wire::feature::delays | wire::feature::holds);
  answer.features |= features_of(strategy_with(hello.features));
  answer.primary = core_.self();
  answer.shape = shape_of(replica_.guest->info());
  answer.resume = resume;
  answer.heartbeat_token = token;
  answer.heartbeat_port = context_.parts.heartbeat_port;
  answer.heartbeat_interval_ms = static_cast<std::uint32_t>(
      std::chrono::duration_cast<Millis>(context_.options.detector.interval).count());
  tell_not_compared();
  start_detector(token);
  connection_->send(wire::encode(answer, context_.parts.guest, core_.record().generation));
  context_.statistics.update([&](SessionStatus& s) {
    s.transport = connection_->description();
    s.peer = to_string(hello.backup);
  });
  // Before anything that is cut from here on.
  if (resume && logging())
    for (auto& log : following_->recorder.since(hello.newest_complete)) send_log(std::move(log));
  perform(core_.on_backup(context_.now(), hello));
  // What the guest said since the connection broke, nobody compares any more.
  if (resume && comparison_) perform(core_.on_output_waiting(context_.now()));
}

// What the backup lacks goes with the next epoch, raw: the reference image is ahead of it. Logs
// that it lacks are sent again, unless the checkpoint that they begin with never came.
void PrimaryRunner::continue_from(EpochId newest) {
  if (logging() && newest.epoch >= following_->begun_at) return;
  if (logging()) {
    following_.reset();  // First: it unplugs itself from the guest.
    following_ = std::make_unique<Following>(*replica_.exact, context_.options);
  }
  PageSet lacking;
  for (const auto& pending : pending_)
    if (pending.record.id.epoch > newest.epoch) lacking.merge(pending.pages);
  checkpointer_->carry(lacking);
  const bool older = image_before_ && newest.epoch < image_before_->first;
  encoder_->resume(older ? image_before_->image : newest);
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
  if (event.kind == DetectorEvent::Kind::alive) {
    heard_ = true;
    perform(core_.on_alive(context_.now()));
  }
  if (event.kind != DetectorEvent::Kind::suspected) {
    context_.tell(LogLevel::info, "heartbeat", event.detail, {});
    return;
  }
  // A backup dials heartbeats when its standby is made, which takes as long as it takes.
  if (!heard_ && core_.state() == core::PrimaryState::syncing) return;
  if (!core_.bears_silence(context_.now()))
    context_.statistics.update([](SessionStatus& s) { ++s.heartbeat_suspicions; });
  perform(core_.on_suspected(context_.now(), event.detail));
}

// Waits for the sender, so that no epoch is being encoded any more.
void PrimaryRunner::disconnect() {
  connection_.reset();
  posting_.forget();
  rest_comparison();
  if (checkpointer_) checkpointer_->reclaim();
  if (following_ && following_->rebase) following_->rebase->lost = true;
  if (verification_ && verification_->id != EpochId{})  // Asked, or about to be.
    end_verification(failure(Code::peer_lost, "the connection to the backup broke meanwhile"));
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
  listening_ = nullptr;
  comparison_.reset();
  sync_.reset();
  end_log();
  pending_.clear();
  if (tracking_) replica_.guest->stop_tracking();
  tracking_ = false;
  if (verification_) end_verification(failure(Code::peer_lost, "the backup went away meanwhile"));
  if (change_) end_change(failure(Code::peer_lost, "the backup went away meanwhile"));
  image_before_.reset();
  forget_peer();
}

void PrimaryRunner::forget_peer() {
  context_.statistics.update([](SessionStatus& s) {
    s.peer.clear();
    s.transport.clear();
    s.sync_round = 0;
    s.compare.state.clear();
  });
}

void PrimaryRunner::stop_guest(const std::string& why) {
  context_.tell(LogLevel::warning, "guest_stopped", why, {});
  replica_.guest->destroy();
}

}  // namespace libft::session
