// SPDX-License-Identifier: LGPL-2.1-or-later
// The QMP client against a monitor made of a socket and a script.
#include "qemu/qmp.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "os/fd.h"

using namespace libft;
using qemu::Json;
using qemu::Qmp;

namespace {

constexpr const char* kGreeting =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}}}}\n";

// Accepts one client and answers its n-th line with the n-th answer; then closes, when told so.
class Monitor {
 public:
  Monitor(std::string greeting, std::vector<std::string> answers, bool close_at_end = false) {
    char name[] = "/tmp/libft-qmp-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder_ = name;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path().c_str());
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_.get(), 1) == 0);
    thread_ = std::jthread([=, this] { serve(greeting, answers, close_at_end); });
  }
  ~Monitor() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
    std::filesystem::remove_all(folder_);
  }
  std::string path() const { return folder_ + "/qmp"; }
  std::string heard;  // Read it after the client has gone.

 private:
  void serve(const std::string& greeting, const std::vector<std::string>& answers, bool close) {
    const os::ScopedFd client(::accept(listener_.get(), nullptr, nullptr));
    if (!client.valid()) return;
    say(client.get(), greeting);
    std::size_t answered = 0;
    char byte = 0;
    while (!(close && answered == answers.size()) && ::read(client.get(), &byte, 1) == 1) {
      heard += byte;
      if (byte == '\n' && answered < answers.size()) say(client.get(), answers[answered++]);
    }
  }
  static void say(int fd, const std::string& text) {
    [[maybe_unused]] const auto sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
  }

  std::string folder_;
  os::ScopedFd listener_;
  std::jthread thread_;
};

}  // namespace

TEST_CASE("answers belong to commands in order, events go to the sink") {
  Monitor monitor(kGreeting, {"{\"return\": {}}\n",
                              "{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1}}\n"
                              "{\"return\": {\"n\": 1}}\n",
                              "{\"return\": {\"n\": 2}}\n"});
  std::vector<std::string> events;
  auto qmp = Qmp::connect(
      monitor.path(), [&](const Json& event) { events.push_back(qemu::text_at(event, "event")); });
  REQUIRE(qmp);
  const auto first = (*qmp)->post(qemu::qmp_line("stop") + qemu::qmp_line("save"), 2);
  REQUIRE(first);
  const auto second_answer = (*qmp)->wait(*first + 1, Millis{5000});
  REQUIRE(second_answer);
  CHECK(qemu::number_at(*second_answer, "n") == 2);
  const auto first_answer = (*qmp)->wait(*first, Millis{5000});
  REQUIRE(first_answer);
  CHECK(qemu::number_at(*first_answer, "n") == 1);
  CHECK(events == std::vector<std::string>{"STOP"});
}

TEST_CASE("an error answer carries QEMU's text and a code") {
  Monitor monitor(kGreeting,
                  {"{\"return\": {}}\n",
                   "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such\"}}\n",
                   "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n"});
  auto qmp = Qmp::connect(monitor.path(), nullptr);
  REQUIRE(qmp);
  const auto unknown = (*qmp)->execute("nonsense");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code() == Code::unsupported);
  const auto refused = (*qmp)->execute("stop");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().to_string() == "refused: stop: not now");
}

TEST_CASE("the answer of a command that timed out is not taken for the next one's") {
  Monitor monitor(kGreeting,
                  {"{\"return\": {}}\n", "",  // Answers the second line late, with the third.
                   "{\"return\": {\"n\": 1}}\n{\"return\": {\"n\": 2}}\n"});
  auto qmp = Qmp::connect(monitor.path(), nullptr);
  REQUIRE(qmp);
  const auto late = (*qmp)->execute("slow", Json::object(), Millis{30});
  REQUIRE_FALSE(late);
  CHECK(late.error().code() == Code::timeout);
  const auto next = (*qmp)->execute("next");
  REQUIRE(next);
  CHECK(qemu::number_at(*next, "n") == 2);
}

TEST_CASE("an end in the middle is guest_gone, at once and ever after") {
  Monitor monitor(kGreeting, {"{\"return\": {}}\n", "{\"ret"}, true);
  auto qmp = Qmp::connect(monitor.path(), nullptr);
  REQUIRE(qmp);
  const auto cut = (*qmp)->execute("stop");
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code() == Code::guest_gone);
  CHECK((*qmp)->lost());
  CHECK_FALSE((*qmp)->execute("cont"));
}

TEST_CASE("what is no monitor is named, with a remedy") {
  const auto missing = Qmp::connect("/nonexistent/qmp", nullptr);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message().find("-qmp unix:") != std::string::npos);

  Monitor other("220 mail server ready\n", {});
  const auto foreign = Qmp::connect(other.path(), nullptr, Millis{2000});
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().message().find("no QMP socket") != std::string::npos);

  Monitor held("", {});  // QEMU lets a second client wait without a word.
  const auto busy = Qmp::connect(held.path(), nullptr, Millis{50});
  REQUIRE_FALSE(busy);
  CHECK(busy.error().code() == Code::busy);
  CHECK(busy.error().message().find("monitor of its own") != std::string::npos);
}
