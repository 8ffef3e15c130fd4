// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest's clock against an agent made of a socket pair and a thread: its protocol, its silence,
// its nonsense.
#include "guest/qemu/guest_clock.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <deque>

#include "qemu/qmp.h"

using namespace libft;
using qemu::GuestClock;
using qemu::GuestClockOptions;
using qemu::Json;

namespace {

using Steady = std::chrono::steady_clock;

constexpr Nanos kNow = std::chrono::hours{450'000};

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = Steady::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (Steady::now() > deadline) return false;
    std::this_thread::sleep_for(Millis{1});
  }
  return true;
}

enum class Manner { honest, silent, garbage, endless, refusing, deaf_to_setting };

// A guest whose clock is behind, with its agent. The host's clock stands at kNow.
class FakeGuest {
 public:
  ~FakeGuest() { hang_up(); }

  Result<os::ScopedFd> connect() {
    hang_up();
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
      return failure(os::errno_status("socketpair"));
    agent_.reset(pair[0]);
    ++connections;
    thread_ = std::jthread([this] { serve(); });
    return os::ScopedFd(pair[1]);
  }
  void hang_up() {
    if (!thread_.joinable()) return;
    ::shutdown(agent_.get(), SHUT_RDWR);
    thread_.join();
  }

  GuestClockOptions options() {
    GuestClockOptions options;
    options.connect = [this] { return connect(); };
    options.stopped = [this] { return Nanos{stopped.load()}; };
    options.host_time = [] { return kNow; };
    options.say = [this](const std::string& text) {
      const std::scoped_lock lock(mutex_);
      said_.push_back(text);
    };
    options.interval = Millis{5};
    options.answer_timeout = Millis{50};
    options.set_timeout = Millis{50};
    options.retry_max = Millis{20};
    return options;
  }
  // What a checkpoint does to the guest's clock.
  void stop_for(Nanos time) {
    lag += time.count();
    stopped += time.count();
  }
  std::vector<std::string> said() {
    const std::scoped_lock lock(mutex_);
    return said_;
  }

  std::atomic<std::int64_t> lag{0};
  std::atomic<std::int64_t> stopped{0};
  std::atomic<Manner> manner{Manner::honest};
  std::atomic<int> connections{0};
  std::atomic<int> sets{0};
  std::atomic<int> steps_back{0};
  std::atomic<int> heard{0};

 private:
  void serve() {
    char byte = 0;
    std::string line;
    while (::read(agent_.get(), &byte, 1) == 1) {
      if (byte == '\xff') {
        line.clear();
        say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n");
      } else if (byte != '\n') {
        line += byte;
      } else {
        answer(Json::parse(std::exchange(line, ""), nullptr, false));
      }
    }
  }
  void answer(const Json& request) {
    ++heard;
    const std::string command = qemu::text_at(request, "execute");
    if (manner == Manner::silent) return;
    if (manner == Manner::garbage) return say("[1, \n{\"return\":\n\x01\x02\n{\"return\": -5}\n");
    if (manner == Manner::endless) return say(std::string(100'000, 'x'));
    if (command == "guest-sync")
      return say(Json{{"return", request["arguments"]["id"]}}.dump() + "\n");
    if (manner == Manner::refusing)
      return say("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"is disabled\"}}\n");
    if (command == "guest-get-time")
      return say(Json{{"return", (kNow - Nanos{lag.load()}).count()}}.dump() + "\n");
    if (manner == Manner::deaf_to_setting) return;
    const std::int64_t behind = kNow.count() - request["arguments"]["time"].get<std::int64_t>();
    if (behind > lag) ++steps_back;
    lag = behind;
    ++sets;
    say("{\"return\": {}}\n");
  }
  void say(const std::string& text) const {
    [[maybe_unused]] const auto sent = ::send(agent_.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }

  os::ScopedFd agent_;
  std::mutex mutex_;
  std::vector<std::string> said_;
  std::jthread thread_;
};

}  // namespace

TEST_CASE("stops are made good once they add up, and not before") {
  FakeGuest guest;
  GuestClock clock(guest.options());
  REQUIRE(clock.start().ok());
  guest.stop_for(Millis{12});
  CHECK(clock.left() == Millis{12});
  CHECK(guest.connections == 0);
  guest.stop_for(Millis{12});
  REQUIRE(eventually([&] { return clock.corrections() == 1; }));
  CHECK(guest.lag == 0);
  CHECK(eventually([&] { return clock.left() < Millis{12}; }));
  for (int i = 0; i < 50; ++i) {
    guest.stop_for(Millis{8});
    std::this_thread::sleep_for(Millis{2});
  }
  guest.stop_for(Millis{1000});
  REQUIRE(eventually([&] { return guest.lag == 0 && clock.left() < Millis{500}; }));
  clock.stop();
  CHECK(guest.steps_back == 0);
  CHECK(guest.connections == 1);
  CHECK(guest.said().empty());
  CHECK(clock.answered());
}

TEST_CASE("after a promotion the clock is looked at without a stop") {
  FakeGuest guest;
  guest.lag = Nanos(Millis{300}).count();
  GuestClock clock(guest.options());
  clock.look_now();
  REQUIRE(clock.start().ok());
  REQUIRE(eventually([&] { return clock.corrections() == 1; }));
  CHECK(guest.lag == 0);
}

TEST_CASE("a look that got no answer is repeated") {
  FakeGuest guest;
  guest.lag = Nanos(Millis{300}).count();
  guest.manner = Manner::silent;
  GuestClock clock(guest.options());
  clock.look_now();
  REQUIRE(clock.start().ok());
  REQUIRE(eventually([&] { return guest.said().size() == 1; }));
  CHECK(guest.said()[0].find("not corrected") != std::string::npos);
  CHECK(!clock.answered());
  guest.manner = Manner::honest;
  REQUIRE(eventually([&] { return clock.corrections() == 1; }));
  CHECK(guest.lag == 0);
  CHECK(guest.said().size() == 1);
}

TEST_CASE("a clock that is right, or ahead, is left alone") {
  FakeGuest guest;
  guest.lag = -Nanos(std::chrono::seconds{5}).count();
  GuestClock clock(guest.options());
  REQUIRE(clock.start().ok());
  guest.stopped = Nanos(Millis{200}).count();  // Somebody else set it right: NTP, or the owner.
  REQUIRE(eventually([&] { return clock.answered() && clock.left() == Nanos{0}; }));
  CHECK(guest.sets == 0);
}

TEST_CASE("a clock that is far behind is its owner's") {
  FakeGuest guest;
  guest.lag = Nanos(std::chrono::hours{24}).count();
  GuestClock clock(guest.options());
  REQUIRE(clock.start().ok());
  guest.stop_for(Millis{40});
  REQUIRE(eventually([&] { return guest.said().size() == 1; }));
  CHECK(guest.said()[0].find("left alone") != std::string::npos);
  CHECK(guest.sets == 0);
  CHECK(clock.left() == Millis{40});
}

TEST_CASE("an agent that talks nonsense costs nothing but the correction") {
  for (const Manner manner : {Manner::garbage, Manner::endless, Manner::refusing,
                              Manner::deaf_to_setting, Manner::silent}) {
    CAPTURE(static_cast<int>(manner));
    FakeGuest guest;
    guest.manner = manner;
    GuestClock clock(guest.options());
    REQUIRE(clock.start().ok());
    guest.stop_for(Millis{40});
    REQUIRE(eventually([&] { return guest.said().size() == 1; }));
    CHECK(clock.corrections() == 0);
    CHECK(clock.left() >= Millis{40});
    guest.manner = Manner::honest;
    guest.stop_for(Millis{400});  // A round trip on a busy machine is less.
    REQUIRE(eventually([&] { return clock.corrections() > 0; }));
    CHECK(guest.lag == 0);
  }
}

TEST_CASE("a connection that ended is made again") {
  FakeGuest guest;
  GuestClock clock(guest.options());
  REQUIRE(clock.start().ok());
  guest.stop_for(Millis{400});
  REQUIRE(eventually([&] { return clock.corrections() == 1; }));
  guest.hang_up();
  guest.stop_for(Millis{400});
  REQUIRE(eventually([&] { return clock.corrections() == 2; }));
  CHECK(guest.connections == 2);
}

TEST_CASE("it ends at once, whatever the agent does") {
  FakeGuest guest;
  guest.manner = Manner::silent;
  GuestClockOptions options = guest.options();
  options.answer_timeout = std::chrono::seconds{60};
  GuestClock clock(std::move(options));
  clock.look_now();
  REQUIRE(clock.start().ok());
  REQUIRE(eventually([&] { return guest.heard == 1; }));
  const auto from = Steady::now();
  clock.stop();
  CHECK(Steady::now() - from < std::chrono::seconds{10});
}
