// SPDX-License-Identifier: LGPL-2.1-or-later
// A host of the session's tests: what sessions share there, and the session of its replica, over
// real threads, sockets and heartbeats. The tests' main thread uses it.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>

#include "failover/file_arbiter.h"
#include "failover/heartbeat_detector.h"
#include "guest/memory/memory_guest.h"
#include "libft/session.h"
#include "libft/witness.h"
#include "os/inline_executor.h"
#include "os/mmap_arena.h"
#include "os/real_clock.h"
#include "output/memory_gate.h"
#include "transport/transports.h"

namespace libft::test {

class QuietLog final : public Log {
 public:
  void write(LogLevel level, std::string_view, std::string_view text) override {
    if (level >= LogLevel::error) MESSAGE(std::string(text));
  }
};

inline std::string temporary_folder() {
  std::string path = (std::filesystem::temp_directory_path() / "libft-session-XXXXXX").string();
  REQUIRE(::mkdtemp(path.data()) != nullptr);
  return path;
}

// Where a backup's connection can be cut, if there is one, and its way be said to be silent.
struct Cable {
  std::mutex mutex;
  Transport* line = nullptr;
  std::function<void(DetectorEvent)> heartbeats;
  void cut() {
    const std::scoped_lock lock(mutex);
    if (line) line->close();
  }
  void silent(Time at) {
    const std::scoped_lock lock(mutex);
    heartbeats({DetectorEvent::Kind::path_down, at, Millis{200}, "path 1: silent", 0});
  }
};

// Heartbeats, into which a test can say what no single path on loopback ever says.
class Pulse final : public Detector {
 public:
  Pulse(Cable& cable, std::unique_ptr<Detector> inner) : cable_(cable), inner_(std::move(inner)) {}
  Status start(std::function<void(DetectorEvent)> sink) override {
    const std::scoped_lock lock(cable_.mutex);
    cable_.heartbeats = sink;
    return inner_->start(std::move(sink));
  }
  void stop() override { inner_->stop(); }
  void progress() override { inner_->progress(); }

 private:
  Cable& cable_;
  std::unique_ptr<Detector> inner_;
};

class Line final : public Transport {
 public:
  Line(Cable& cable, std::unique_ptr<Transport> inner) : cable_(cable), inner_(std::move(inner)) {
    const std::scoped_lock lock(cable_.mutex);
    cable_.line = inner_.get();
  }
  ~Line() override {
    const std::scoped_lock lock(cable_.mutex);
    if (cable_.line == inner_.get()) cable_.line = nullptr;
  }
  Status send(std::span<const std::span<const std::byte>> pieces) override {
    return inner_->send(pieces);
  }
  Result<std::size_t> receive(std::span<std::byte> buffer) override {
    return inner_->receive(buffer);
  }
  void close() override { inner_->close(); }
  std::string description() const override { return inner_->description(); }
  bool authenticated() const override { return inner_->authenticated(); }

 private:
  Cable& cable_;
  std::unique_ptr<Transport> inner_;
};

// Something that happens to a guest in its pause, after its pages were copied.
class InThePause final : public OutputGate {
 public:
  InThePause(std::unique_ptr<OutputGate> inner, const std::function<void()>& what)
      : inner_(std::move(inner)), what_(what) {}
  GateLimits limits() const override { return inner_->limits(); }
  void set_waiting_sink(std::function<void()> sink) override {
    inner_->set_waiting_sink(std::move(sink));
  }
  Status hold() override { return inner_->hold(); }
  Status seal(EpochId id) override {
    if (what_) what_();
    return inner_->seal(id);
  }
  Status release(EpochId id) override { return inner_->release(id); }
  void discard() override { inner_->discard(); }
  Status open() override { return inner_->open(); }
  GateStatistics statistics() const override { return inner_->statistics(); }

 private:
  std::unique_ptr<OutputGate> inner_;
  const std::function<void()>& what_;
};

// The real time, and what a test adds to it.
class EarlyClock final : public Clock {
 public:
  Time now() const override { return real_.now() + Nanos{ahead_.load()}; }
  void add(Nanos time) { ahead_ += time.count(); }

 private:
  os::RealClock real_;
  std::atomic<Nanos::rep> ahead_{0};
};

// One host: what sessions share there, and the session of its replica.
struct Host {
  std::string name, folder;
  QuietLog log;
  EarlyClock clock;
  os::InlineExecutor executor;
  os::MmapArena arena;
  std::unique_ptr<failover::HeartbeatHub> heartbeats;
  std::string address;
  guest::MemoryGuest* guest = nullptr;
  Cable cable;
  std::function<void()> in_the_pause;                 // Set before the session is made; likewise:
  std::function<Replica(bool standby)> make_replica;  // Instead of a guest in memory.
  std::function<std::unique_ptr<Arbiter>(std::unique_ptr<Arbiter>)> wrap_arbiter;
  std::function<Status(const Guest&)> check;
  SessionOptions options;
  std::atomic<int> other_ways{0};
  std::unique_ptr<Session> session;
  std::unique_ptr<Switchboard> switchboard;

  Host(std::string host, std::string shared) : name(std::move(host)), folder(std::move(shared)) {
    auto hub = failover::HeartbeatHub::open({"127.0.0.1:0"}, "");
    REQUIRE(hub);
    heartbeats = std::move(*hub);
  }
  ~Host() { die(); }

  void die() {
    switchboard.reset();
    session.reset();
  }

  Replica replica(bool standby) {
    if (make_replica) return make_replica(standby);
    auto gate = output::MemoryGate::create({}, [](std::span<const std::byte>) {});
    REQUIRE(gate);
    auto memory = std::make_unique<guest::MemoryGuest>(
        guest::MemoryGuestOptions{.pages = 512, .seed = 3, .standby = standby});
    guest = memory.get();
    return {std::make_unique<InThePause>(std::move(*gate), in_the_pause), std::move(memory)};
  }

  std::unique_ptr<Arbiter> arbiter() {
    auto file = std::make_unique<failover::FileArbiter>(folder);
    return wrap_arbiter ? wrap_arbiter(std::move(file)) : std::move(file);
  }

  SessionParts parts(std::string peer = {}) {
    SessionParts parts{
        .guest = *GuestId::from_name("db"),
        .host = name,
        .log = log,
        .clock = clock,
        .executor = executor,
        .arena = arena,
        .arbiter = arbiter(),
        .fence = nullptr,
        .guard = std::make_shared<ReleaseGuard>(clock),
        .make_standby = [this](const GuestInfo&) { return Result<Replica>(replica(true)); },
        .dial = [this, peer](bool another_way) -> Result<std::unique_ptr<Transport>> {
          if (another_way) ++other_ways;
          FT_ASSIGN(auto connection, transport::open(peer, {}));
          return std::make_unique<Line>(cable, std::move(connection));
        },
        .dial_heartbeats = [this](std::uint64_t token,
                                  std::uint16_t port) -> Result<std::unique_ptr<Detector>> {
          FT_ASSIGN(auto pulse,
                    failover::dial_heartbeats({"127.0.0.1:" + std::to_string(port)},
                                              *GuestId::from_name("db"), token, "", {}));
          return std::make_unique<Pulse>(cable, std::move(pulse));
        },
        .expect_heartbeats =
            [this](std::uint64_t token) {
              return Result<std::unique_ptr<Detector>>(
                  heartbeats->expect(*GuestId::from_name("db"), token, {}));
            },
        .heartbeat_port = heartbeats->port()};
    parts.check = check;
    return parts;
  }

  void listen() {
    auto listener = transport::listen("tcp:127.0.0.1:0", {});
    REQUIRE(listener);
    address = (*listener)->address();
    switchboard = Switchboard::open(std::move(*listener), log);
    switchboard->add(*GuestId::from_name("db"), *session);
  }

  void protect() {
    auto made = Session::protect(parts(), replica(false), options);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    session = std::move(*made);
    listen();
  }

  void stand_by(const std::string& peer) {
    auto made = Session::stand_by(parts(peer), options);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    session = std::move(*made);
    listen();
  }

  // Dials the peers in turn, as they are then.
  void bear_witness(const std::function<std::vector<std::string>()>& peers) {
    SessionParts mine = parts();
    mine.dial = [this, peers,
                 turn = std::size_t{0}](bool) mutable -> Result<std::unique_ptr<Transport>> {
      const auto now = peers();
      FT_ASSIGN(auto connection, transport::open(now[turn++ % now.size()], {}));
      return std::make_unique<Line>(cable, std::move(connection));
    };
    auto made = libft::bear_witness(std::move(mine), options);
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    session = std::move(*made);
  }

  template <class Condition>
  bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      if (condition(session->status())) return true;
      if (std::chrono::steady_clock::now() > deadline) return false;
      // Waits for the next event, at most 20 ms: a status can change without one.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  bool reaches(std::string_view state) {
    return eventually([&](const SessionStatus& s) { return s.state == state; });
  }
};

}  // namespace libft::test
