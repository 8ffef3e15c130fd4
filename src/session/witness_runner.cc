// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/witness_runner.h"

#include <fmt/format.h>

#include <utility>

#include "os/memory_free.h"
#include "session/backup_runner.h"
#include "session/shape.h"
#include "session/strategy.h"

namespace libft::session {

Result<std::unique_ptr<WitnessRunner>> WitnessRunner::make(Context& context, Replica& replica) {
  FT_ASSIGN(auto self, new_incarnation(context.parts.host));
  std::unique_ptr<WitnessRunner> runner(new WitnessRunner(context, replica, std::move(self)));
  runner->connect();
  return runner;
}

WitnessRunner::WitnessRunner(Context& context, Replica& replica, Incarnation self)
    : context_(context),
      replica_(replica),
      self_(std::move(self)),
      posting_(context.mailbox),
      follow_posting_(context.mailbox) {
  context_.statistics.update([&](SessionStatus& s) { s.self = self_; });
  publish("dialing");
}

WitnessRunner::~WitnessRunner() {
  (void)connector_->send(
      wire::encode(wire::Bye{"the witness stops"}, context_.parts.guest, Generation{}));
  connector_.reset();  // First: its thread uses the rest.
}

void WitnessRunner::publish(std::string_view state) {
  context_.statistics.update([&](SessionStatus& s) { s.state = state; });
}

// --- the connection -----------------------------------------------------------------------------

void WitnessRunner::connect() {
  connector_ = std::make_unique<Connector>(
      context_.parts.guest, context_.parts.dial,
      Connector::Sinks{
          .welcomed = [this, welcomed = posting_.later<wire::Welcome, std::string>(
                                 [this](const wire::Welcome& welcome, const std::string& way) {
                                   on_welcomed(welcome, way);
                                 })](const wire::Welcome& welcome, Generation,
                                     const std::string& description) -> Status {
            FT_TRY(prepare(welcome));
            welcomed(welcome, description);
            return {};
          },
          .frame = posting_.later<OwnedFrame>([this](const OwnedFrame& f) { on_frame(f); }),
          .lost = posting_.later<Status>([this](const Status& status) { on_lost(status); }),
          .not_welcome =
              posting_.later<Status>([this](const Status& status) { on_not_welcome(status); })});
  announce({});
}

// A backup takes every witness as a new one; what it was given before is of no use any more.
void WitnessRunner::announce(EpochId newest) {
  connector_->announce({.self = self_,
                        .newest = newest,
                        .image_of = newest == EpochId{} ? Incarnation{} : backup_,
                        .memory_bytes_free = replica_.guest ? 0 : os::memory_bytes_free(),
                        .features = wire::feature::votes});
}

Status WitnessRunner::prepare(const wire::Welcome& welcome) {
  if ((welcome.features & wire::feature::votes) == 0)
    return Status(Code::unsupported,
                  "that host's libft knows no witnesses: install the same release on all hosts");
  const auto info = info_of(welcome.shape);
  if (!replica_.guest) {
    FT_ASSIGN(auto made, context_.parts.make_standby(info));
    const std::scoped_lock lock(context_.replica_mutex);
    replica_ = std::move(made);
  }
  if (replica_.exact == nullptr) return missing_for_replay(replica_.guest->info().driver);
  return replica_.guest->accepts(info);
}

void WitnessRunner::on_welcomed(const wire::Welcome& welcome, const std::string& description) {
  last_trouble_.clear();
  backup_ = welcome.primary;
  const auto& info = replica_.guest->info();
  assembler_ = std::make_unique<checkpoint::EpochAssembler>(context_.parts.guest, info,
                                                            context_.parts.arena);
  context_.statistics.update([&](SessionStatus& s) {
    s.transport = description;
    s.peer = to_string(welcome.primary);
    s.guest_description = info.description;
    s.strategy = to_string(Strategy::lockstep);
    s.tracker = info.tracker;
    s.accelerator = info.accelerator;
  });
  context_.tell(LogLevel::info, "connected", description, {});
  publish("syncing");
}

void WitnessRunner::on_not_welcome(const Status& status) {
  if (status.to_string() == last_trouble_) return;  // Once, not every 200 ms.
  last_trouble_ = status.to_string();
  context_.tell(LogLevel::warning, "not_connected", last_trouble_, {});
}

void WitnessRunner::on_lost(const Status& status) {
  follow_posting_.forget();
  follow_.reset();
  assembler_.reset();
  context_.tell(LogLevel::warning, "disconnected", status.to_string(), {});
  context_.statistics.update([](SessionStatus& s) { s.peer.clear(); });
  if (context_.statistics.snapshot().role != Role::ended) publish("dialing");
}

// --- what the backup says -----------------------------------------------------------------------

void WitnessRunner::on_frame(const OwnedFrame& frame) {
  const std::size_t bytes = frame.payload.size();
  context_.statistics.update(
      [&](SessionStatus& s) { s.bytes_received += wire::kHeaderBytes + bytes; });
  // Frames may be left of a connection that is lost.
  if (const Status status = assembler_ ? handle(frame.view()) : Status(); !status) {
    context_.statistics.update([](SessionStatus& s) { ++s.corrupt_frames; });
    context_.tell(LogLevel::error, "corrupt_frame", status.to_string(), {});
    connector_->hang_up();
  }
  connector_->done_with(bytes);
}

Status WitnessRunner::handle(const wire::Frame& frame) {
  if (frame.header.type == wire::FrameType::epoch_log) return on_log(frame);
  if (wire::is_bulk(frame.header.type)) return on_image(frame);
  FT_ASSIGN(const auto message, wire::decode(frame));
  on_message(message);
  return {};
}

Status WitnessRunner::on_image(const wire::Frame& frame) {
  if (follow_) return Status(Code::corrupt, "another image, and the first is executed already");
  FT_ASSIGN(const auto complete, assembler_->on_frame(frame));
  return complete ? begin(complete->id) : Status();
}

Status WitnessRunner::begin(EpochId id) {
  assembler_->apply();
  FT_TRY(replica_.guest->load_state(assembler_->state()));
  FT_ASSIGN(const Position at, replica_.exact->position());
  FT_ASSIGN(const std::uint64_t hash, replica_.exact->state_hash());
  logs_.begin(id, at);
  auto relay = std::make_shared<FollowThread::Relay>();
  relay->came_to = follow_posting_.later<wire::LogEpoch, replay::Ballot>(
      [this](const wire::LogEpoch& log, const replay::Ballot& here) { vote(log.id, here); });
  // Who differs is for the backup to say.
  follow_ = std::make_unique<FollowThread>(
      *replica_.exact, nullptr, nullptr,
      FollowThread::Sinks{.followed = [](EpochId) {}, .failed = [](const Status&) {}});
  follow_->relay_to(std::move(relay));
  announce(id);
  vote(id, {true, 0, hash});
  context_.tell(LogLevel::info, "voting", fmt::format("from epoch {} on", to_string(id)), {});
  publish("voting");
  return {};
}

Status WitnessRunner::on_log(const wire::Frame& frame) {
  if (!follow_) return Status(Code::corrupt, "a log, and no image that it goes on from");
  FT_ASSIGN(auto whole, logs_.on_frame(frame));
  if (whole) follow_->take(std::move(*whole));
  return {};
}

void WitnessRunner::on_message(const wire::Message& message) {
  if (std::holds_alternative<wire::ImageWanted>(message) && follow_) {
    auto image = std::make_shared<WholeImage>();
    return follow_->when_idle([this, image, id = logs_.newest(),
                               give = follow_posting_.later([this, image] { give_image(image); })] {
      *image = room_for_image(replica_.guest->info());
      if (take_image(*replica_.guest, id, *image)) give();
    });
  }
  if (const auto* ended = std::get_if<wire::Ended>(&message)) {
    context_.statistics.update([](SessionStatus& s) { s.role = Role::ended; });
    context_.tell(LogLevel::info, "stood_down", ended->text, {});
    return;
  }
  if (const auto* bye = std::get_if<wire::Bye>(&message))
    context_.tell(LogLevel::info, "bye", bye->text, {});
  connector_->hang_up();
}

void WitnessRunner::vote(EpochId id, const replay::Ballot& ballot) {
  const wire::Vote said{id, ballot.executed, ballot.said, ballot.hash};
  // A failure shows as the end of the connection, on the connector's thread.
  (void)connector_->send(wire::encode(said, context_.parts.guest, id.generation));
  context_.statistics.update([&](SessionStatus& s) {
    ++s.epochs;
    s.generation = id.generation;
    s.epoch_acknowledged = id.epoch.value;
  });
}

void WitnessRunner::give_image(std::shared_ptr<WholeImage> image) {
  context_.tell(LogLevel::info, "image_given", fmt::format("of epoch {}", to_string(image->id)),
                {});
  const Status sent =
      send_image(*image, context_.parts.guest, replica_.guest->info(), context_.parts.executor,
                 [this](std::span<const std::span<const std::byte>> pieces) -> Status {
                   for (const auto piece : pieces)
                     FT_TRY(connector_->send({piece.begin(), piece.end()}));
                   return {};
                 });
  if (!sent) context_.tell(LogLevel::warning, "image_not_given", sent.to_string(), {});
}

}  // namespace libft::session
