// SPDX-License-Identifier: LGPL-2.1-or-later
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <thread>

#include "failover/heartbeat_detector.h"
#include "failover/scripted_detector.h"

using namespace libft;
using namespace libft::failover;
using Kind = DetectorEvent::Kind;

namespace {

constexpr auto kGenerous = std::chrono::seconds{20};
const GuestId kGuest = *GuestId::from_name("db-1");
constexpr std::uint64_t kToken = 0x1122334455667788;

// Waits are for events; the deadline is only there to end a broken test.
class Events {
 public:
  auto sink() {
    return [this](DetectorEvent event) {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
      changed_.notify_all();
    };
  }
  bool await(Kind kind, std::size_t count = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kGenerous, [&] { return count_of(kind) >= count; });
  }
  std::size_t count(Kind kind) {
    const std::lock_guard lock(mutex_);
    return count_of(kind);
  }
  DetectorEvent last() {
    const std::lock_guard lock(mutex_);
    return events_.back();
  }

 private:
  std::size_t count_of(Kind kind) const {
    std::size_t count = 0;
    for (const auto& event : events_) count += event.kind == kind;
    return count;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<DetectorEvent> events_;
};

template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kGenerous;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(Millis{1});
  }
  return true;
}

DetectorOptions patient() {  // For tests in which nothing is to be suspected.
  DetectorOptions options;
  options.interval = Millis{10};
  options.missed_max = 1000;
  options.stuck_after = std::chrono::hours{1};
  return options;
}

DetectorOptions quick() {
  DetectorOptions options;
  options.interval = Millis{20};
  return options;
}

std::unique_ptr<HeartbeatHub> open_hub(std::vector<std::string> addresses,
                                       std::string_view key = "") {
  auto hub = HeartbeatHub::open(addresses, key);
  REQUIRE_MESSAGE(hub, (hub ? "" : hub.error().to_string()));
  return std::move(*hub);
}

std::unique_ptr<Detector> dial(std::vector<std::string> addresses, std::string_view key = "",
                               DetectorOptions options = patient(), std::uint64_t token = kToken) {
  auto detector = dial_heartbeats(addresses, kGuest, token, key, options);
  REQUIRE_MESSAGE(detector, (detector ? "" : detector.error().to_string()));
  return std::move(*detector);
}

std::string unix_address(const char* name) {
  return "unix:/tmp/libft-heartbeat-" + std::to_string(::getpid()) + "-" + name;
}

// A bare socket that sends what it is given to a hub: a stranger, a forger.
struct Stranger {
  explicit Stranger(const std::string& hub)
      : to(*datagram_address(hub, os::ResolveFor::connecting)),
        socket(*DatagramSocket::towards(to, "")) {}
  void send(std::span<const std::uint8_t> bytes) { REQUIRE(socket.send(bytes, to)); }
  os::SocketAddress to;
  DatagramSocket socket;
};

}  // namespace

TEST_CASE("a heartbeat survives its bytes, and only with the right key") {
  Heartbeat heartbeat;
  heartbeat.sender = HeartbeatSide::listener;
  heartbeat.path = 1;
  heartbeat.paths = 2;
  heartbeat.guest = kGuest.bytes();
  heartbeat.token = kToken;
  heartbeat.sequence = 0x0102030405060708;
  heartbeat.progress = 9;
  heartbeat.echo = 10;
  const auto bytes = HeartbeatKey("secret").seal(heartbeat);
  const auto opened = HeartbeatKey("secret").open(bytes);
  REQUIRE(opened.heartbeat);
  CHECK(*opened.heartbeat == heartbeat);
  CHECK(bytes[32] == 0x08);  // Little-endian.
  CHECK_FALSE(HeartbeatKey("other").open(bytes).heartbeat);
  CHECK_FALSE(HeartbeatKey("").open(bytes).heartbeat);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    auto damaged = bytes;
    damaged[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    CHECK_FALSE(HeartbeatKey("secret").open(damaged).heartbeat);
  }
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(HeartbeatKey("secret").open(std::span(bytes).first(length)).heartbeat);
}

TEST_CASE("both sides hear each other over sockets that somebody else connected") {
  std::array<int, 2> first{}, second{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM, 0, first.data()) == 0);
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM, 0, second.data()) == 0);
  const auto hub_over = [](int one, int two) {
    std::vector<os::ScopedFd> fds;
    fds.emplace_back(one);
    fds.emplace_back(two);
    auto hub = HeartbeatHub::over(std::move(fds), "key");
    REQUIRE_MESSAGE(hub, (hub ? "" : hub.error().to_string()));
    return std::move(*hub);
  };
  const auto a = hub_over(first[0], second[0]);
  auto b = hub_over(first[1], second[1]);
  CHECK(a->connected());
  const auto listening = a->expect(kGuest, kToken, quick());
  auto dialling = b->dial(kGuest, kToken, quick());
  REQUIRE(dialling);
  Events primary, backup;
  REQUIRE(listening->start(primary.sink()).ok());
  REQUIRE((*dialling)->start(backup.sink()).ok());
  CHECK(eventually([&] { return a->counters().heard >= 6 && b->counters().heard >= 6; }));
  CHECK(a->counters().bad_proof == 0);
  // The same sockets serve the next connection, under another token.
  const auto next = a->expect(kGuest, kToken + 1, quick());
  auto again = b->dial(kGuest, kToken + 1, quick());
  REQUIRE(again);
  REQUIRE(next->start(primary.sink()).ok());
  REQUIRE((*again)->start(backup.sink()).ok());
  const auto before = a->counters().heard;
  CHECK(eventually([&] { return a->counters().heard >= before + 6; }));
  dialling->reset();
  again->reset();
  b.reset();  // Nobody is at the other end any more: silence, as anywhere.
  CHECK(eventually([&] { return primary.count(Kind::suspected) >= 2; }));
}

TEST_CASE("a socket that is not for heartbeats is refused") {
  const auto refused = [](int kind) {
    std::vector<os::ScopedFd> fds;
    fds.emplace_back(::socket(AF_INET, kind, 0));
    return HeartbeatHub::over(std::move(fds), "");
  };
  auto stream = refused(SOCK_STREAM);
  REQUIRE_FALSE(stream);
  CHECK(stream.error().code() == Code::invalid);
  auto unconnected = refused(SOCK_DGRAM);  // Nothing wrong with it on a primary ...
  REQUIRE(unconnected);
  CHECK_FALSE((*unconnected)->connected());
  CHECK_FALSE((*unconnected)->dial(kGuest, kToken, quick()));  // ... but whom would a backup tell?
  CHECK_FALSE(HeartbeatHub::over({}, ""));
}

TEST_CASE("both sides hear each other, over every kind of address") {
  for (const std::string& listen :
       {std::string("127.0.0.1:0"), std::string("[::1]:0"), unix_address("both")}) {
    CAPTURE(listen);
    if (listen.starts_with("[") && !HeartbeatHub::open({listen}, "")) continue;  // No IPv6 here.
    Events primary, backup;
    const auto hub = open_hub({listen}, "key");
    const auto listening = hub->expect(kGuest, kToken, patient());
    const auto dialling = dial({hub->address()}, "key");
    REQUIRE(listening->start(primary.sink()).ok());
    REQUIRE(dialling->start(backup.sink()).ok());
    CHECK(primary.await(Kind::alive));
    CHECK(backup.await(Kind::alive));
  }
}

TEST_CASE("a peer that stops is suspected by silence, and alive when it is back") {
  Events events;
  const auto hub = open_hub({"127.0.0.1:0"});
  const auto listening = hub->expect(kGuest, kToken, quick());
  const auto dialling = dial({hub->address()}, "", quick());
  REQUIRE(listening->start(events.sink()).ok());
  REQUIRE(dialling->start([](DetectorEvent) {}).ok());
  REQUIRE(events.await(Kind::alive));
  dialling->stop();
  REQUIRE(events.await(Kind::suspected));
  CHECK(events.last().silence >= Millis{60});  // Three intervals.
  REQUIRE(dialling->start([](DetectorEvent) {}).ok());
  CHECK(events.await(Kind::alive, 2));
}

TEST_CASE("a port that refuses is not a proof: only silence counts, after the grace") {
  std::string closed;
  { closed = open_hub({"127.0.0.1:0"})->address(); }
  Events events;
  const auto dialling = dial({closed}, "", quick());
  const auto before = std::chrono::steady_clock::now();
  REQUIRE(dialling->start(events.sink()).ok());
  REQUIRE(events.await(Kind::suspected));
  CHECK(std::chrono::steady_clock::now() - before >= std::chrono::seconds{1});
  CHECK(events.count(Kind::alive) == 0);
}

TEST_CASE("wrong key, wrong token, old sequence, reflections and noise are dropped and counted") {
  const auto hub = open_hub({"127.0.0.1:0"}, "right");
  Events events;
  const auto listening = hub->expect(kGuest, kToken, patient());
  REQUIRE(listening->start(events.sink()).ok());
  Stranger stranger(hub->address());
  Heartbeat heartbeat;
  heartbeat.guest = kGuest.bytes();
  heartbeat.token = kToken;
  heartbeat.sequence = 5;

  stranger.send(HeartbeatKey("wrong").seal(heartbeat));
  CHECK(eventually([&] { return hub->counters().bad_proof == 1; }));
  auto reflected = heartbeat;
  reflected.sender = HeartbeatSide::listener;
  stranger.send(HeartbeatKey("right").seal(reflected));
  CHECK(eventually([&] { return hub->counters().bad_proof == 2; }));
  auto other = heartbeat;
  other.token = 7;
  stranger.send(HeartbeatKey("right").seal(other));
  CHECK(eventually([&] { return hub->counters().strangers == 1; }));
  const std::array<std::uint8_t, 200> noise{};
  stranger.send(noise);
  stranger.send(std::span(noise).first(3));
  CHECK(eventually([&] { return hub->counters().malformed == 2; }));
  CHECK(hub->counters().sent == 0);  // Nothing is sent to those who proved nothing.
  CHECK(events.count(Kind::alive) == 0);

  const auto genuine = HeartbeatKey("right").seal(heartbeat);
  stranger.send(genuine);
  CHECK(events.await(Kind::alive));
  stranger.send(genuine);
  CHECK(eventually([&] { return hub->counters().replayed == 1; }));
  CHECK(hub->counters().heard == 1);
}

TEST_CASE("several guests share a port, and one that falls silent concerns only itself") {
  const auto hub = open_hub({"127.0.0.1:0"});
  Events first_events, second_events;
  const auto first = hub->expect(kGuest, 1, quick()), second = hub->expect(kGuest, 2, patient());
  REQUIRE(first->start(first_events.sink()).ok());
  REQUIRE(second->start(second_events.sink()).ok());
  auto dial_first = dial({hub->address()}, "", quick(), 1);
  const auto dial_second = dial({hub->address()}, "", patient(), 2);
  REQUIRE(dial_first->start([](DetectorEvent) {}).ok());
  REQUIRE(dial_second->start([](DetectorEvent) {}).ok());
  REQUIRE(first_events.await(Kind::alive));
  REQUIRE(second_events.await(Kind::alive));
  dial_first.reset();
  CHECK(first_events.await(Kind::suspected));
  CHECK(second_events.count(Kind::suspected) == 0);
}

TEST_CASE("with two paths, one that is lost is told and is no suspicion") {
  auto steady = quick();
  steady.missed_max = 15;  // A busy machine may delay the path that works.
  auto one = open_hub({"127.0.0.1:0", unix_address("two")});
  Events primary;
  const auto listening = one->expect(kGuest, kToken, steady);
  REQUIRE(listening->start(primary.sink()).ok());
  // A path whose other end is not there, beside one that works.
  const auto nowhere = unix_address("nowhere");
  const auto dialling = dial({one->address(0) + "@127.0.0.1", nowhere}, "", steady);
  Events backup;
  REQUIRE(dialling->start(backup.sink()).ok());
  REQUIRE(backup.await(Kind::path_down));
  CHECK(backup.count(Kind::path_up) == 1);
  CHECK(backup.count(Kind::suspected) == 0);
  CHECK(primary.await(Kind::path_down));
  CHECK(primary.count(Kind::suspected) == 0);

  Events both;
  const auto second = dial({one->address(0), one->address(1)}, "", steady, 99);
  const auto expecting = one->expect(kGuest, 99, steady);
  REQUIRE(expecting->start([](DetectorEvent) {}).ok());
  REQUIRE(second->start(both.sink()).ok());
  CHECK(both.await(Kind::path_up, 2));
}

TEST_CASE("a heart that beats over a session that stands still is suspected") {
  auto options = quick();
  options.stuck_after = Millis{150};
  const auto hub = open_hub({"127.0.0.1:0"});
  Events events;
  const auto listening = hub->expect(kGuest, kToken, options);
  const auto dialling = dial({hub->address()}, "", quick());
  REQUIRE(listening->start(events.sink()).ok());
  REQUIRE(dialling->start([](DetectorEvent) {}).ok());
  REQUIRE(events.await(Kind::suspected));
  CHECK(events.last().detail.find("session") != std::string::npos);
  dialling->progress();
  CHECK(events.await(Kind::alive, 2));
}

TEST_CASE("after stop() the sink is not called, and the hub may go before its detectors") {
  auto hub = open_hub({"127.0.0.1:0"});
  auto listening = hub->expect(kGuest, kToken, quick());
  const auto address = hub->address();
  for (int round = 0; round < 20; ++round) {
    auto events = std::make_unique<Events>();
    REQUIRE(listening->start(events->sink()).ok());
    const auto dialling = dial({address}, "", quick());
    REQUIRE(dialling->start(events->sink()).ok());
    dialling->stop();
    listening->stop();
    events.reset();  // A call from now on would be seen by the sanitizers.
  }
  hub.reset();
  listening->progress();
  listening.reset();
}

TEST_CASE("a path that a dead process left is taken over, one in use is not") {
  const auto address = unix_address("left");
  auto first = open_hub({address});
  const auto second = HeartbeatHub::open({address}, "");
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::busy);
  first.reset();
  // As a killed process leaves it: bound, and nobody there.
  {
    os::ScopedFd left(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto at = *datagram_address(address, os::ResolveFor::listening);
    REQUIRE(::bind(left.get(), at.get(), at.bytes()) == 0);
  }
  CHECK(HeartbeatHub::open({address}, ""));
}

TEST_CASE("requests that make no sense are refused at once") {
  CHECK_FALSE(HeartbeatHub::open({}, ""));
  CHECK_FALSE(HeartbeatHub::open({"a:1", "b:2", "c:3"}, ""));
  for (const char* bad : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "unix:"}) {
    CAPTURE(bad);
    CHECK_FALSE(dial_heartbeats({bad}, kGuest, 1, "", patient()));
  }
  auto never = patient();
  never.interval = Nanos{0};
  CHECK_FALSE(dial_heartbeats({"127.0.0.1:1"}, kGuest, 1, "", never));
  const auto hub = open_hub({"127.0.0.1:0"});
  CHECK_FALSE(hub->expect(kGuest, 1, never)->start([](DetectorEvent) {}).ok());
  CHECK(hub->port() != 0);
}

TEST_CASE("the scripted detector tells what it is told") {
  ScriptedDetector detector;
  Events events;
  detector.suspect(Time{}, Millis{5});
  REQUIRE(detector.start(events.sink()).ok());
  detector.alive(Time{});
  detector.suspect(Time{}, Millis{5});
  CHECK(events.count(Kind::alive) == 1);
  CHECK(events.last().silence == Millis{5});
  detector.stop();
  CHECK_FALSE(detector.started());
}
