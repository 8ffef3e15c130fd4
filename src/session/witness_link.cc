// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/witness_link.h"

#include <utility>

#include "session/shape.h"

namespace libft::session {
namespace {

replay::Ballot ballot_of(const wire::LogMark& mark) { return {true, mark.said, mark.hash}; }

}  // namespace

WitnessLink::WitnessLink(Context& context, Guest& guest, std::unique_ptr<Transport> transport,
                         std::vector<std::byte> received, const wire::Hello& hello,
                         const Incarnation& self, Sinks sinks)
    : context_(context),
      guest_(guest),
      host_(hello.backup.host),
      sinks_(std::move(sinks)),
      fetching_(std::make_shared<Fetching>()),
      image_(std::make_shared<WholeImage>()) {
  // Decoding so much is not for the session's thread.
  const auto bulk = [fetching = fetching_,
                     image = sinks_.image](const wire::Frame& frame) -> Status {
    const std::scoped_lock lock(fetching->mutex);
    if (!fetching->assembler)
      return Status(Code::corrupt, "an image of the witness's that nobody asked for");
    FT_ASSIGN(const auto complete, fetching->assembler->on_frame(frame));
    if (complete) image(complete->id);
    return {};
  };
  connection_ = std::make_shared<Connection>(
      std::move(transport), context.parts.guest, std::move(received),
      Connection::Sinks{.message = sinks_.message, .broken = sinks_.broken, .bulk = bulk});
  wire::Welcome welcome;
  welcome.features = wire::feature::votes;
  welcome.primary = self;
  welcome.shape = shape_of(guest.info());
  say(welcome);
  // Touching so much memory takes a while: not while the guest stands still for the copy.
  connection_->send([image = image_, ready = sinks_.ready, info = guest.info()](Transport&) {
    *image = room_for_image(info);
    ready();
    return Status();
  });
}

WitnessLink::~WitnessLink() {
  const std::scoped_lock lock(fetching_->mutex);
  fetching_->assembler.reset();  // On this thread: the arena's.
}

void WitnessLink::say(const wire::Message& message) {
  connection_->send(wire::encode(message, context_.parts.guest, {}));
}

// The relay may be called while, and a little after, the link goes: it holds what it uses.
std::shared_ptr<const FollowThread::Relay> WitnessLink::relay() const {
  auto relay = std::make_shared<FollowThread::Relay>(*relay_on());
  relay->begin = [this_guest = &guest_, image = image_, connection = connection_,
                  &context = context_, came_to = sinks_.came_to,
                  broken = sinks_.broken](const wire::LogEpoch& epoch) {
    if (const Status taken = take_image(*this_guest, epoch.id, *image); !taken)
      return broken(taken.within("copy the guest"));
    const replay::Ballot hash{true, 0, epoch.mark.hash};
    came_to(epoch.id, hash, hash);
    connection->send([image, &context, info = this_guest->info()](Transport& transport) {
      const Status sent =
          send_image(*image, context.parts.guest, info, context.parts.executor,
                     [&transport](std::span<const std::span<const std::byte>> pieces) {
                       return transport.send(pieces);
                     });
      *image = {};
      return sent;
    });
  };
  return relay;
}

std::shared_ptr<const FollowThread::Relay> WitnessLink::relay_on() const {
  auto relay = std::make_shared<FollowThread::Relay>();
  relay->log = [connection = connection_, guest = context_.parts.guest](const wire::LogEpoch& log) {
    connection->send(wire::encode_log(guest, log));
  };
  relay->came_to = [came_to = sinks_.came_to](const wire::LogEpoch& log,
                                              const replay::Ballot& here) {
    came_to(log.id, ballot_of(log.mark), here);
  };
  return relay;
}

void WitnessLink::fetch_image(EpochId id) {
  auto assembler = std::make_unique<checkpoint::EpochAssembler>(context_.parts.guest, guest_.info(),
                                                                context_.parts.arena);
  {
    const std::scoped_lock lock(fetching_->mutex);
    fetching_->assembler = std::move(assembler);
  }
  say(wire::ImageWanted{id});
}

std::vector<std::byte> WitnessLink::apply_image() {
  const std::scoped_lock lock(fetching_->mutex);
  fetching_->assembler->apply();
  const auto state = fetching_->assembler->state();
  std::vector<std::byte> copy(state.begin(), state.end());
  fetching_->assembler.reset();
  return copy;
}

}  // namespace libft::session
