// SPDX-License-Identifier: LGPL-2.1-or-later
// QMP over somebody else's connection, which is a script here.
#include "qemu/relayed_qmp.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>

#include <deque>
#include <thread>

using namespace libft;
using qemu::Json;
using qemu::Qmp;

namespace {

class Toolstack final : public qemu::QmpRelay {
 public:
  void execute(std::string command, os::ScopedFd fd, Answer answer) override {
    heard.push_back(std::move(command));
    along = std::move(fd);
    waiting.push_back(std::move(answer));
  }
  void set_event_sink(std::function<void(std::string_view)> sink) override {
    tell = std::move(sink);
  }
  void answer(std::string reply) {
    auto next = std::move(waiting.front());
    waiting.pop_front();
    next(std::move(reply));
  }

  std::vector<std::string> heard;
  os::ScopedFd along;
  std::deque<Answer> waiting;
  std::function<void(std::string_view)> tell;
};

bool readable(int fd) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

struct Pair {
  std::shared_ptr<Toolstack> toolstack = std::make_shared<Toolstack>();
  std::vector<std::string> events;
  std::unique_ptr<Qmp> qmp = *qemu::relay_qmp(
      toolstack, [this](const Json& event) { events.push_back(qemu::text_at(event, "event")); });
};

}  // namespace

TEST_CASE("relayed: commands posted together are two, and each reply finds its own") {
  Pair pair;
  const auto first = *pair.qmp->post("{\"execute\":\"stop\"}\n{\"execute\":\"save\"}\n", 2);
  REQUIRE(pair.toolstack->heard.size() == 2);
  CHECK(pair.toolstack->heard[0] == "{\"execute\":\"stop\"}");
  pair.toolstack->answer(R"({"return": {"n": 1}, "id": "toolstack-7"})");
  pair.toolstack->answer(R"({"error": {"class": "CommandNotFound", "desc": "no such"}})");
  const auto second = pair.qmp->wait(first + 1, Millis{0});
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::unsupported);
  const auto answer = pair.qmp->wait(first, Millis{0});
  REQUIRE(answer);
  CHECK(qemu::number_at(*answer, "n") == 1);
}

TEST_CASE("relayed: an answer may come from another thread, or too late, or be none") {
  Pair pair;
  const auto ticket = *pair.qmp->post("{\"execute\":\"cont\"}\n");
  std::jthread later([&] { pair.toolstack->answer(R"({"return": {}})"); });
  CHECK(pair.qmp->wait(ticket, std::chrono::seconds{20}));

  const auto slow = *pair.qmp->post("{\"execute\":\"cont\"}\n");
  CHECK(pair.qmp->wait(slow, Millis{1}).error().code() == Code::timeout);
  pair.toolstack->answer(R"({"return": {}})");  // Dropped.

  const auto odd = *pair.qmp->post("{\"execute\":\"cont\"}\n");
  pair.toolstack->answer("OK");
  CHECK(pair.qmp->wait(odd, Millis{0}).error().code() == Code::corrupt);

  const auto gone = *pair.qmp->post("{\"execute\":\"cont\"}\n");
  pair.qmp.reset();
  pair.toolstack->answer(R"({"return": {}})");  // Nobody is there any more.
  (void)gone;
}

TEST_CASE("relayed: a descriptor travels as a copy, with the first command") {
  Pair pair;
  const os::ScopedFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  (void)pair.qmp->post("{\"execute\":\"getfd\"}\n", 1, null.get());
  CHECK(pair.toolstack->along.valid());
  CHECK(pair.toolstack->along.get() != null.get());
}

TEST_CASE("relayed: an event reaches the sink at once, and wakes who watches") {
  Pair pair;
  CHECK_FALSE(readable(pair.qmp->fd()));
  pair.toolstack->tell(R"({"event": "STOP", "timestamp": {"seconds": 1}})");
  pair.toolstack->tell("no JSON");
  CHECK(pair.events == std::vector<std::string>{"STOP"});
  CHECK(readable(pair.qmp->fd()));
  pair.qmp->drain();
  CHECK_FALSE(readable(pair.qmp->fd()));
  pair.qmp.reset();
  CHECK_FALSE(pair.toolstack->tell);
}

TEST_CASE("relayed: a toolstack that never answers meets a limit") {
  Pair pair;
  for (int i = 0; i < 64; ++i) REQUIRE(pair.qmp->post("{\"execute\":\"x\"}\n"));
  CHECK(pair.qmp->post("{\"execute\":\"x\"}\n").error().code() == Code::exhausted);
}
