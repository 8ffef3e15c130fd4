// SPDX-License-Identifier: LGPL-2.1-or-later
// The client against a server of ten lines on loopback that can forget, refuse and hang up.
#include "demo/redis_client.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <sstream>

#include "os/poll.h"
#include "os/socket.h"
#include "os/thread.h"

namespace libft::demo {
namespace {

class SmallServer {
 public:
  SmallServer() {
    auto at = os::resolve({"127.0.0.1", 0}, os::ResolveFor::listening);
    REQUIRE(at);
    auto listener = os::listen_socket(at->front());
    REQUIRE(listener);
    listener_ = std::move(*listener);
    auto wake = os::EventFd::create();
    REQUIRE(wake);
    wake_ = std::make_unique<os::EventFd>(std::move(*wake));
    thread_ = os::start_thread("small-server", [this] { serve(); });
  }
  ~SmallServer() { wake_->signal(); }

  RedisClientOptions options() const {
    RedisClientOptions options;
    options.port = os::SocketAddress::local(listener_.get())->port();
    return options;
  }
  std::atomic<int> forget_every{0};
  std::atomic<bool> hang_up{false};
  std::atomic<bool> refuse{false};

 private:
  void serve() {
    auto accepted = os::accept_socket(listener_.get(), wake_->fd(), std::chrono::seconds{30});
    if (!accepted) return;
    std::string buffer;
    while (!hang_up) {
      auto woke = os::wait_ready(accepted->get(), POLLIN, wake_->fd(), std::chrono::seconds{30});
      if (!woke || *woke != os::Woke::ready) return;
      char bytes[4096];
      const ssize_t got = ::read(accepted->get(), bytes, sizeof bytes);
      if (got <= 0) return;
      buffer.append(bytes, static_cast<std::size_t>(got));
      while (answer(buffer, accepted->get())) {
      }
    }
  }

  // A request is "*N" and N pairs of lines; values here hold no line ends.
  bool answer(std::string& buffer, int fd) {
    std::vector<std::string> words;
    std::istringstream in(buffer);
    std::string line;
    if (!std::getline(in, line) || line.size() < 3) return false;
    for (int left = std::stoi(line.substr(1)); left > 0; --left) {
      if (!std::getline(in, line) || !std::getline(in, line) || in.eof()) return false;
      words.push_back(line.substr(0, line.size() - 1));
    }
    buffer.erase(0, static_cast<std::size_t>(in.tellg()));
    const std::string reply = reply_to(words);
    return ::write(fd, reply.data(), reply.size()) == static_cast<ssize_t>(reply.size());
  }

  std::string reply_to(const std::vector<std::string>& words) {
    if (words[0] == "SET") {
      if (refuse) return "-LOADING not now\r\n";
      ++sets_;
      if (forget_every == 0 || sets_ % forget_every != 0) data_[words[1]] = words[2];
      return "+OK\r\n";
    }
    const auto at = data_.find(words[1]);
    if (at == data_.end()) return "$-1\r\n";
    return "$" + std::to_string(at->second.size()) + "\r\n" + at->second + "\r\n";
  }

  os::ScopedFd listener_;
  std::unique_ptr<os::EventFd> wake_;
  std::map<std::string, std::string> data_;
  int sets_ = 0;
  std::jthread thread_;
};

void wait_for_acknowledged(const RedisClient& client, std::uint64_t count) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (client.acknowledged() < count && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(Millis{1});
  }
  REQUIRE(client.acknowledged() >= count);
}

constexpr Nanos kPatience = std::chrono::seconds{20};

TEST_CASE("all acknowledged writes are read back over the one connection") {
  SmallServer server;
  auto client = RedisClient::connect(server.options());
  REQUIRE(client);
  (*client)->offer(Load::open, 2000);
  wait_for_acknowledged(**client, 100);
  (*client)->offer(Load::closed);
  wait_for_acknowledged(**client, 400);
  REQUIRE((*client)->drain(kPatience).ok());
  const auto result = (*client)->read_back(kPatience);
  REQUIRE(result);
  CHECK(result->checked == (*client)->acknowledged());
  CHECK(result->lost == 0);
  CHECK((*client)->survived());
}

TEST_CASE("a server that forgets one write in ten is found out") {
  SmallServer server;
  server.forget_every = 10;
  auto client = RedisClient::connect(server.options());
  REQUIRE(client);
  (*client)->offer(Load::closed);
  wait_for_acknowledged(**client, 200);
  REQUIRE((*client)->drain(kPatience).ok());
  const auto result = (*client)->read_back(kPatience);
  REQUIRE(result);
  CHECK(result->lost == result->checked / 10);
}

TEST_CASE("a refused write is not an acknowledged one") {
  SmallServer server;
  server.refuse = true;
  auto client = RedisClient::connect(server.options());
  REQUIRE(client);
  (*client)->offer(Load::open, 1000);
  while ((*client)->errors() < 10) std::this_thread::sleep_for(Millis{1});
  REQUIRE((*client)->drain(kPatience).ok());
  CHECK((*client)->acknowledged() == 0);
  CHECK((*client)->survived());
}

TEST_CASE("a connection that ends has not survived") {
  SmallServer server;
  auto client = RedisClient::connect(server.options());
  REQUIRE(client);
  (*client)->offer(Load::open, 500);
  wait_for_acknowledged(**client, 5);
  server.hang_up = true;
  while ((*client)->survived()) std::this_thread::sleep_for(Millis{1});
  CHECK_FALSE((*client)->end_reason().empty());
  CHECK((*client)->drain(kPatience).code() == Code::peer_lost);
}

}  // namespace
}  // namespace libft::demo
