// SPDX-License-Identifier: LGPL-2.1-or-later
// The client against a small web server on loopback that can answer wrongly, hang up and be silent;
// and the client of the guest's observer against somebody who answers one question of three.
#include "demo/web_client.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "demo/question_client.h"
#include "lab/guest/protocol.h"
#include "os/poll.h"
#include "os/thread.h"

namespace libft::demo {
namespace {

constexpr Nanos kPatience = std::chrono::seconds{20};

class SmallWebServer {
 public:
  SmallWebServer() {
    auto at = os::resolve({"127.0.0.1", 0}, os::ResolveFor::listening);
    REQUIRE(at);
    auto listener = os::listen_socket(at->front());
    REQUIRE(listener);
    listener_ = std::move(*listener);
    auto wake = os::EventFd::create();
    REQUIRE(wake);
    wake_ = std::make_unique<os::EventFd>(std::move(*wake));
    thread_ = os::start_thread("small-web", [this] { serve(); });
  }
  ~SmallWebServer() { wake_->signal(); }

  WebClientOptions options(AfterAnswer connections) const {
    WebClientOptions options;
    options.port = os::SocketAddress::local(listener_.get())->port();
    options.connections = connections;
    return options;
  }
  enum class Manner { good, not_found, another_page, hangs_up, silent };
  std::atomic<Manner> manner{Manner::good};
  std::atomic<int> accepted{0};

 private:
  // One thread for all connections; a request is never longer than one read here.
  void serve() {
    std::vector<os::ScopedFd> clients;
    for (;;) {
      std::vector<pollfd> polled{{wake_->fd(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const auto& client : clients) polled.push_back({client.get(), POLLIN, 0});
      if (::poll(polled.data(), polled.size(), 30'000) <= 0 || polled[0].revents != 0) return;
      for (std::size_t i = polled.size(); i-- > 2;)
        if (polled[i].revents != 0 && !answer(clients[i - 2].get()))
          clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(i - 2));
      if (polled[1].revents == 0) continue;
      clients.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      ++accepted;
    }
  }
  // False: hang up.
  bool answer(int fd) {
    char request[4096];
    const ssize_t got = ::read(fd, request, sizeof request);
    if (got <= 0 || manner == Manner::hangs_up) return false;
    if (manner == Manner::silent) return true;
    const std::string reply =
        manner == Manner::not_found      ? "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
        : manner == Manner::another_page ? "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nPAGE"
                                         : "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage";
    return ::write(fd, reply.data(), reply.size()) == static_cast<ssize_t>(reply.size()) &&
           std::string_view(request, static_cast<std::size_t>(got)).find("close") ==
               std::string_view::npos;
  }

  os::ScopedFd listener_;
  std::unique_ptr<os::EventFd> wake_;
  std::jthread thread_;
};

std::size_t answered(const LoadClient& client) {
  const auto samples = client.samples();
  return static_cast<std::size_t>(
      std::count_if(samples.begin(), samples.end(), [](const auto& s) { return s.acknowledged; }));
}

template <typename Done>
void wait_until(Done done) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(Millis{1});
  REQUIRE(done());
}

TEST_CASE("one request at a time needs one connection, or one for each") {
  for (const AfterAnswer connections : {AfterAnswer::keep, AfterAnswer::close}) {
    SmallWebServer server;
    auto client = WebClient::start(server.options(connections));
    REQUIRE(client);
    (*client)->offer(Load::closed, 1);
    wait_until([&] { return answered(**client) >= 50; });
    REQUIRE((*client)->drain(kPatience).ok());
    CHECK((*client)->errors() == 0);
    const auto samples = (*client)->samples();
    for (std::size_t i = 1; i < samples.size(); ++i)
      CHECK(samples[i].sent >= samples[i - 1].answered);
    // The first connection asked for nothing: whether there is a server.
    const int wanted = connections == AfterAnswer::keep ? 2 : 1 + static_cast<int>(samples.size());
    CHECK(server.accepted == wanted);
  }
}

TEST_CASE("a server that is slow makes requests late, and none is left out") {
  SmallWebServer server;
  server.manner = SmallWebServer::Manner::silent;
  WebClientOptions options = server.options(AfterAnswer::keep);
  options.connections_max = 2;
  options.answer_patience = Millis{200};
  auto client = WebClient::start(options);
  REQUIRE(client);
  (*client)->offer(Load::open, 100);
  wait_until([&] { return (*client)->errors() >= 2; });
  server.manner = SmallWebServer::Manner::good;
  wait_until([&] { return answered(**client) >= 20; });
  REQUIRE((*client)->drain(kPatience).ok());
  const auto samples = (*client)->samples();
  for (std::size_t i = 1; i < samples.size(); ++i)
    CHECK(samples[i].due - samples[i - 1].due == Millis{10});
  CHECK(answered(**client) + (*client)->errors() == samples.size());
  // Those that waited for a connection count from when they were due.
  CHECK(std::any_of(samples.begin(), samples.end(), [](const RequestSample& s) {
    return s.acknowledged && s.latency_ms() > s.round_trip_ms() + 50;
  }));
}

TEST_CASE("what is not the page is an error") {
  for (const auto manner : {SmallWebServer::Manner::not_found, SmallWebServer::Manner::another_page,
                            SmallWebServer::Manner::hangs_up}) {
    SmallWebServer server;
    auto client = WebClient::start(server.options(AfterAnswer::keep));
    REQUIRE(client);
    (*client)->offer(Load::open, 200);
    wait_until([&] { return answered(**client) >= 5; });
    CHECK((*client)->errors() == 0);
    server.manner = manner;
    wait_until([&] { return (*client)->errors() >= 5; });
    CHECK_FALSE((*client)->last_error().empty());
    server.manner = SmallWebServer::Manner::good;
    const std::size_t before = answered(**client);
    wait_until([&] { return answered(**client) >= before + 5; });
    CHECK((*client)->drain(kPatience).ok());
  }
}

TEST_CASE("a question without an answer is an error, and the next one is asked all the same") {
  os::ScopedFd guest(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const os::SocketAddress any = *address_of({"127.0.0.1", 0, -1});
  REQUIRE(::bind(guest.get(), any.get(), any.bytes()) == 0);
  const std::uint16_t port = os::SocketAddress::local(guest.get())->port();
  auto wake = os::EventFd::create();
  REQUIRE(wake);
  const auto answer_some = [&] {
    for (;;) {
      const auto woke = os::wait_ready(guest.get(), POLLIN, wake->fd(), kPatience);
      if (!woke || *woke != os::Woke::ready) return;
      LabQuery query{};
      sockaddr_storage from{};
      socklen_t bytes = sizeof from;
      ::recvfrom(guest.get(), &query, sizeof query, 0, reinterpret_cast<sockaddr*>(&from), &bytes);
      if (query.kind != LAB_NOTHING || query.argument % 3 != 0) continue;
      const LabAnswer answer{LAB_ANSWER_MAGIC, query.kind, query.argument, {}};
      ::sendto(guest.get(), &answer, sizeof answer, 0, reinterpret_cast<sockaddr*>(&from), bytes);
    }
  };
  const std::jthread thread = os::start_thread("small-guest", answer_some);
  {
    auto client = QuestionClient::start({{"127.0.0.1", port, -1}, Millis{300}});
    REQUIRE(client);
    (*client)->offer(Load::open, 100);
    wait_until([&] { return answered(**client) >= 10; });
    REQUIRE((*client)->drain(kPatience).ok());
    const auto samples = (*client)->samples();
    for (const RequestSample& sample : samples)
      CHECK(sample.acknowledged == (sample.number % 3 == 0));
    CHECK((*client)->errors() == samples.size() - answered(**client));
  }
  wake->signal();
}

}  // namespace
}  // namespace libft::demo
