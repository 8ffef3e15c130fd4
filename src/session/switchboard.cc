// SPDX-License-Identifier: LGPL-2.1-or-later
#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "libft/session.h"
#include "os/thread.h"
#include "transport/close_after.h"
#include "wire/frame.h"

namespace libft {
namespace {

constexpr std::size_t kGreetersMax = 64;  // Connections that have not yet said for whom.
constexpr std::size_t kHelloBytesMax = 1u << 20;
constexpr Nanos kHelloPatience = std::chrono::seconds{10};  // The TLS handshake is in it.

// Reads a connection until its first frame is whole, whatever guest it is for.
struct Greeting {
  wire::FrameHeader header;
  std::vector<std::byte> received;  // From the first byte on.
};

Result<Greeting> read_hello(Transport& transport) {
  wire::FrameReader reader;
  Greeting greeting;
  for (;;) {
    FT_ASSIGN(const auto frame, reader.next());
    if (frame) {
      if (frame->header.type != wire::FrameType::hello)
        return failure(Code::corrupt, "the first frame is not a Hello");
      greeting.header = frame->header;
      return greeting;
    }
    if (greeting.received.size() > kHelloBytesMax)
      return failure(Code::corrupt, "no Hello in the first MiB");
    const auto space = reader.space();
    FT_ASSIGN(const auto bytes, transport.receive(space));
    greeting.received.insert(greeting.received.end(), space.begin(),
                             space.begin() + static_cast<std::ptrdiff_t>(bytes));
    reader.stored(bytes);
  }
}

class SwitchboardImpl final : public Switchboard {
 public:
  SwitchboardImpl(std::unique_ptr<Listener> listener, Log& log)
      : listener_(std::move(listener)), log_(log) {
    acceptor_ = os::start_thread("ft-accept", [this] { accept_all(); });
  }

  ~SwitchboardImpl() override {
    {
      const std::scoped_lock lock(mutex_);
      stopping_ = true;
      for (auto& greeter : greeters_)
        if (greeter.connection) greeter.connection->close();  // Else a session has it.
    }
    listener_->close();
    if (acceptor_.joinable()) acceptor_.join();
    greeters_.clear();  // Joins; the transports are closed.
  }

  void add(const GuestId& guest, Session& session) override {
    const std::scoped_lock lock(mutex_);
    sessions_[guest.bytes()] = &session;
  }

  void remove(const GuestId& guest) override {
    const std::scoped_lock lock(mutex_);
    sessions_.erase(guest.bytes());
  }

 private:
  // A connection on its way to a session. A silent or malicious one costs a thread, not the
  // listener.
  struct Greeter {
    std::unique_ptr<Transport> connection;
    bool done = false;
    std::jthread thread;
  };

  void accept_all() {
    for (;;) {
      auto accepted = listener_->accept();
      const std::scoped_lock lock(mutex_);
      if (stopping_) return;
      greeters_.remove_if([](const Greeter& greeter) { return greeter.done; });
      if (!accepted) {
        log_.write(LogLevel::warning, "session", accepted.error().to_string());
        if (accepted.error().code() == Code::cancelled) return;
        continue;
      }
      if (greeters_.size() >= kGreetersMax) continue;  // Closed: too many that say nothing.
      auto& greeter = greeters_.emplace_back();
      greeter.connection = std::move(*accepted);
      greeter.thread = os::start_thread("ft-greet", [this, &greeter] { greet(greeter); });
    }
  }

  void greet(Greeter& greeter) {
    auto greeting = [&] {
      const transport::CloseAfter deadline(*greeter.connection, kHelloPatience);
      return read_hello(*greeter.connection);
    }();
    const std::scoped_lock lock(mutex_);
    greeter.done = true;
    if (stopping_) return;
    if (!greeting) {
      log_.write(
          LogLevel::warning, "session",
          fmt::format("{}: {}", greeter.connection->description(), greeting.error().to_string()));
      greeter.connection->close();
      return;
    }
    const auto session = sessions_.find(greeting->header.guest);
    if (session != sessions_.end())
      return session->second->offer(std::move(greeter.connection), std::move(greeting->received));
    refuse(*greeter.connection, *greeting);
  }

  void refuse(Transport& transport, const Greeting& greeting) {
    const wire::Refuse refusal{Code::not_found,
                               "no session for this guest here: is its name the same "
                               "on both hosts, and is it protected here?"};
    auto frame = wire::encode(refusal, GuestId{}, Generation{});
    // Under the guest id that was asked for, so that the other side accepts the answer.
    wire::FrameHeader header{
        .type = wire::FrameType::refuse,
        .guest = greeting.header.guest,
        .id = {},
        .payload_bytes = static_cast<std::uint32_t>(frame.size() - wire::kHeaderBytes)};
    wire::write_header(frame, header, std::span(frame).subspan(wire::kHeaderBytes));
    const std::span<const std::byte> piece(frame);
    (void)transport.send({&piece, 1});
    transport.close();
  }

  std::unique_ptr<Listener> listener_;
  Log& log_;
  std::mutex mutex_;
  std::map<std::array<std::uint8_t, 16>, Session*> sessions_;
  std::list<Greeter> greeters_;
  bool stopping_ = false;
  std::jthread acceptor_;
};

}  // namespace

std::unique_ptr<Switchboard> Switchboard::open(std::unique_ptr<Listener> listener, Log& log) {
  return std::make_unique<SwitchboardImpl>(std::move(listener), log);
}

}  // namespace libft
