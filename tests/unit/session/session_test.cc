// SPDX-License-Identifier: LGPL-2.1-or-later
// Two sessions in one process, over real threads, sockets and heartbeats, with guests in memory:
// the wiring. What may never happen is the simulation's subject.
#include "libft/session.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <thread>

#include "failover/file_arbiter.h"
#include "failover/heartbeat_detector.h"
#include "guest/memory/memory_guest.h"
#include "os/inline_executor.h"
#include "os/mmap_arena.h"
#include "os/real_clock.h"
#include "output/memory_gate.h"
#include "transport/transports.h"

using namespace libft;

namespace {

class QuietLog final : public Log {
 public:
  void write(LogLevel level, std::string_view, std::string_view text) override {
    if (level >= LogLevel::error) MESSAGE(std::string(text));
  }
};

std::string temporary_folder() {
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

// One host: what sessions share there, and the session of its replica.
struct Host {
  std::string name, folder;
  QuietLog log;
  os::RealClock clock;
  os::InlineExecutor executor;
  os::MmapArena arena;
  std::unique_ptr<failover::HeartbeatHub> heartbeats;
  std::string address;
  guest::MemoryGuest* guest = nullptr;
  Cable cable;
  std::function<void()> in_the_pause;  // Set before the session is made.
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
    auto gate = output::MemoryGate::create({}, [](std::span<const std::byte>) {});
    REQUIRE(gate);
    auto memory = std::make_unique<guest::MemoryGuest>(
        guest::MemoryGuestOptions{.pages = 512, .seed = 3, .standby = standby});
    guest = memory.get();
    return {std::make_unique<InThePause>(std::move(*gate), in_the_pause), std::move(memory)};
  }

  SessionParts parts(std::string peer = {}) {
    SessionParts parts{
        .guest = *GuestId::from_name("db"),
        .host = name,
        .log = log,
        .clock = clock,
        .executor = executor,
        .arena = arena,
        .arbiter = std::make_unique<failover::FileArbiter>(folder),
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
    auto made = Session::protect(parts(), replica(false), {});
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    session = std::move(*made);
    listen();
  }

  void stand_by(const std::string& peer) {
    auto made = Session::stand_by(parts(peer), {});
    REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
    session = std::move(*made);
    listen();
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

}  // namespace

TEST_CASE("a pair protects, verifies, switches over and is protected again") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  CHECK(a.session->verify(Millis{100}).error().code() == Code::refused);
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  for (int i = 0; i < 20; ++i) a.guest->step(40);
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  CHECK(b.session->test_failover(std::chrono::seconds(20)));
  CHECK(b.session->switch_over().code() == Code::refused);
  const auto steps = a.guest->steps_done();
  REQUIRE(a.session->switch_over());
  REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  REQUIRE(a.eventually([](const SessionStatus& s) { return s.role == Role::fenced; }));
  CHECK(b.guest->running());
  CHECK_FALSE(a.guest->running());
  CHECK(b.guest->steps_done() == steps);

  Host c("c", folder);
  c.stand_by(b.address);
  REQUIRE(b.reaches("protecting"));
  REQUIRE(b.session->unprotect());
  REQUIRE(b.reaches("solo"));
  std::filesystem::remove_all(folder);
}

TEST_CASE(
    "when the primary falls silent the backup takes over; when the backup does, the primary goes "
    "on") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder), c("c", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  a.guest->step(100);
  a.die();
  REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  CHECK(b.guest->running());
  CHECK(b.session->status().takeover_ms < 1000);
  c.stand_by(b.address);
  REQUIRE(b.reaches("protecting"));
  c.die();
  REQUIRE(b.reaches("solo"));
  CHECK(b.guest->running());
  std::filesystem::remove_all(folder);
}

TEST_CASE("a connection that breaks is made anew, and nothing is lost with it") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto self = b.session->status().self;
  for (int round = 0; round < 5; ++round) {
    a.guest->step(60);
    const auto before = a.session->status().reprotects;
    b.cable.cut();
    a.guest->step(60);
    REQUIRE(a.eventually([&](const SessionStatus& s) { return s.reprotects > before; }));
    const auto same = a.session->verify(std::chrono::seconds(20));
    CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  }
  CHECK(b.session->status().self == self);  // It went on from its image each time.
  CHECK(a.session->status().reprotects >= 5);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a verification names the pages that differ") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto first = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(first, (first ? "" : first.error().to_string()));
  for (const std::size_t page : {7, 300})  // As nobody writes whom the driver hears of.
    a.guest->info().memory[0].bytes[page * guest::MemoryGuest::kPageBytes] ^= std::byte{1};
  const auto differs = a.session->verify(std::chrono::seconds(20));
  REQUIRE_FALSE(differs);
  CHECK(differs.error().code() == Code::corrupt);
  CHECK_MESSAGE(differs.error().message().ends_with("2 pages differ: 0x7 (ram), 0x12c (ram)"),
                differs.error().message());
  CHECK(a.session->status().state == "protecting");
  std::filesystem::remove_all(folder);
}

TEST_CASE("a verification compares what was captured, not what was written after it") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  std::atomic<bool> events{false};
  // As a hypervisor leaves events in a guest that stands still, unlogged: on a page that the guest
  // writes whenever it handles events, and so has written in this epoch.
  a.in_the_pause = [&] {
    if (events) a.guest->info().memory[0].bytes[7 * guest::MemoryGuest::kPageBytes] ^= std::byte{1};
  };
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  REQUIRE(a.guest->step(512) == 512);  // All pages.
  events = true;
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  events = false;
  std::filesystem::remove_all(folder);
}

TEST_CASE("a connection whose way falls silent is made by another one, under the same record") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto before = a.session->status();
  b.cable.silent(b.clock.now());
  a.guest->step(60);
  REQUIRE(a.eventually([&](const SessionStatus& s) { return s.reprotects > before.reprotects; }));
  CHECK(b.other_ways == 1);
  CHECK(a.session->status().generation == before.generation);
  const auto same = a.session->verify(std::chrono::seconds(20));
  CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  std::filesystem::remove_all(folder);
}

TEST_CASE("a guest that ends on purpose is recorded as ended, and its backup stands down") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  a.guest->happen(GuestEvent::Kind::ended, "poweroff");
  REQUIRE(a.reaches("ended"));
  REQUIRE(b.eventually([](const SessionStatus& s) { return s.role == Role::ended; }));
  CHECK_FALSE(b.guest->running());
  failover::FileArbiter arbiter(folder);
  CHECK(arbiter.read(*GuestId::from_name("db")).record.ended);
  std::filesystem::remove_all(folder);
}

TEST_CASE("a guest that another host owns is not protected a second time") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  const auto second = Session::protect(b.parts(), b.replica(false), {});
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::refused);
  std::filesystem::remove_all(folder);
}
