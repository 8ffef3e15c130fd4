// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/connector.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "os/thread.h"
#include "transport/close_after.h"

namespace libft::session {
namespace {

constexpr std::size_t kBytesUnderWay = 64u << 20;  // Received and not yet handled.
constexpr Nanos kBetweenDials = Millis{200};
// A primary that takes a backup and gives it up before it has an image (its guest is suspended by
// others, or has changed) does so for as long as that lasts: it is asked less and less often.
constexpr Nanos kBetweenDialsMax = std::chrono::seconds{5};
constexpr Nanos kBetweenHurriedDials = Millis{20};
constexpr Nanos kWelcomePatience = std::chrono::seconds{15};

}  // namespace

Connector::Connector(const GuestId& guest, Dial dial, Sinks sinks)
    : guest_(guest),
      dial_(std::move(dial)),
      sinks_(std::move(sinks)),
      credit_(kBytesUnderWay),
      pause_(kBetweenDials) {
  thread_ = os::start_thread("ft-connect", [this] { run(); });
}

Connector::~Connector() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    if (transport_) transport_->close();
  }
  credit_.close();
  changed_.notify_all();
}

void Connector::announce(Self self) {
  const std::scoped_lock lock(mutex_);
  if (self_ && self_->self != self.self && transport_) transport_->close();
  self_ = std::move(self);
  changed_.notify_all();
}

void Connector::hang_up() {
  const std::scoped_lock lock(mutex_);
  if (transport_) transport_->close();
}

void Connector::take_another_way() {
  const std::scoped_lock lock(mutex_);
  if (!transport_) return;  // It is dialling already.
  another_way_ = true;
  transport_->close();
}

void Connector::hurry(Nanos at_most) {
  const std::scoped_lock lock(mutex_);
  hurry_until_ = std::chrono::steady_clock::now() + at_most;
}

Status Connector::send(const std::vector<std::byte>& frame) {
  std::shared_ptr<Transport> transport;
  {
    const std::scoped_lock lock(mutex_);
    transport = transport_;
  }
  if (!transport) return Status(Code::peer_lost, "not connected");
  const std::span<const std::byte> piece(frame);
  return transport->send({&piece, 1});
}

void Connector::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || self_; });
      if (stopping_) return;
    }
    auto status = one_connection();
    const bool welcomed = status.ok();
    if (!welcomed) sinks_.not_welcome(std::move(status));
    pause_before_dialing(welcomed);
  }
}

void Connector::pause_before_dialing(bool welcomed) {
  std::unique_lock lock(mutex_);
  const bool given_up = welcomed && self_->image_of.nobody();
  pause_ = given_up ? std::min(2 * pause_, kBetweenDialsMax) : kBetweenDials;
  if (std::chrono::steady_clock::now() < hurry_until_) pause_ = kBetweenHurriedDials;
  changed_.wait_for(lock, pause_, [&] { return stopping_ || another_way_; });
}

// Ok when it was welcomed, however it ended.
Status Connector::one_connection() {
  const bool another_way = [&] {
    const std::scoped_lock lock(mutex_);
    return std::exchange(another_way_, false);
  }();
  FT_ASSIGN(auto dialled, dial_(another_way));
  const std::shared_ptr<Transport> transport = std::move(dialled);
  Self self;
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return {};
    transport_ = transport;
    self = *self_;
  }
  wire::FrameReader reader(guest_);
  auto status = greet(*transport, reader, self);
  const bool welcomed = status.ok();
  while (status) {
    auto frame = reader.next();
    if (!frame) {
      status = frame.error();
    } else if (*frame) {
      const auto payload = (*frame)->payload;
      if (!credit_.take(payload.size())) break;
      sinks_.frame({(*frame)->header, {payload.begin(), payload.end()}});
    } else if (auto bytes = transport->receive(reader.space()); bytes) {
      reader.stored(*bytes);
    } else {
      status = bytes.error();
    }
  }
  {
    const std::scoped_lock lock(mutex_);
    transport_.reset();
  }
  transport->close();
  if (!welcomed) return status;
  sinks_.lost(std::move(status));
  return {};
}

Status Connector::greet(Transport& transport, wire::FrameReader& reader, const Self& self) {
  wire::Hello hello;
  hello.features = self.features;
  hello.guest = guest_.name();
  hello.backup = self.self;
  hello.newest_complete = self.newest;
  hello.image_of = self.image_of;
  hello.memory_bytes_free = self.memory_bytes_free;
  const auto frame = wire::encode(hello, guest_, self.newest.generation);
  const std::span<const std::byte> piece(frame);
  FT_TRY(transport.send({&piece, 1}));

  Generation generation;
  FT_ASSIGN(auto message, first_message(transport, reader, generation));
  if (const auto* refuse = std::get_if<wire::Refuse>(&message))
    return Status(refuse->code,
                  fmt::format("{} refuses: {}", transport.description(), refuse->text));
  const auto* welcome = std::get_if<wire::Welcome>(&message);
  if (!welcome) return Status(Code::corrupt, "the peer answered a Hello with something else");
  const auto prepared = sinks_.welcomed(*welcome, generation, transport.description());
  if (!prepared) {
    const auto no =
        wire::encode(wire::Refuse{prepared.code(), prepared.message()}, guest_, generation);
    const std::span<const std::byte> answer(no);
    (void)transport.send({&answer, 1});
  }
  return prepared;
}

Result<wire::Message> Connector::first_message(Transport& transport, wire::FrameReader& reader,
                                               Generation& generation) {
  const transport::CloseAfter deadline(transport, kWelcomePatience);
  for (;;) {
    FT_ASSIGN(auto frame, reader.next());
    if (frame) {
      generation = frame->header.id.generation;
      return wire::decode(*frame);
    }
    FT_ASSIGN(const auto bytes, transport.receive(reader.space()));
    reader.stored(bytes);
  }
}

}  // namespace libft::session
