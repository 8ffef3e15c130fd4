// SPDX-License-Identifier: LGPL-2.1-or-later
// Against a real etcd of one member, started here on ports of its own.
#include <fcntl.h>
#include <poll.h>

#include <csignal>

#include "conformance/etcd_process.h"
#include "conformance/temp_folder.h"

namespace libft::conformance {
namespace {

using failover::EtcdArbiter;
using failover::EtcdClient;
using failover::EtcdOptions;
using Clock = std::chrono::steady_clock;

std::string url(std::uint16_t port) { return fmt::format("http://127.0.0.1:{}", port); }

EtcdOptions options_for(std::vector<std::string> endpoints, Nanos total) {
  EtcdOptions options;
  options.endpoints = std::move(endpoints);
  options.connect = std::min<Nanos>(total, Millis{300});
  options.total = total;
  return options;
}

std::unique_ptr<Arbiter> arbiter_at(std::vector<std::string> endpoints, Nanos total) {
  auto arbiter = EtcdArbiter::open(options_for(std::move(endpoints), total));
  REQUIRE(arbiter);
  return std::move(*arbiter);
}

class EtcdWorld {
 public:
  static std::unique_ptr<EtcdWorld> create() { return std::make_unique<EtcdWorld>(); }
  EtcdWorld() { start(); }

  std::unique_ptr<Arbiter> connect() { return arbiter_at({endpoint()}, kGenerous); }
  std::string endpoint() const { return url(client_port_); }
  os::Child& server() { return *server_; }

  std::string spoil(const GuestId& guest) {
    auto client = EtcdClient::open(options_for({endpoint()}, kGenerous));
    REQUIRE(client);
    const std::string key = "/libft/guests/" + guest.name();
    const auto found = (*client)->get(key);
    REQUIRE((found && *found));
    EtcdClient::Transaction transaction;
    transaction.key = key;
    transaction.condition = EtcdClient::Condition::unchanged;
    transaction.expected = **found;
    transaction.value = "{\"generation\":";
    REQUIRE((*client)->transact(transaction)->stored);
    return key;
  }

  void restart() {
    server_->kill_and_reap();
    start();
  }

 private:
  void start() {
    server_ =
        start_etcd({"--name=libft", "--data-dir=" + folder_.path() + "/data",
                    "--listen-client-urls=" + endpoint(), "--advertise-client-urls=" + endpoint(),
                    "--listen-peer-urls=" + url(peer_port_),
                    "--initial-advertise-peer-urls=" + url(peer_port_),
                    "--initial-cluster=libft=" + url(peer_port_)});
    wait_until_it_answers(*arbiter_at({endpoint()}, Millis{500}));
  }

  TempFolder folder_;
  std::uint16_t client_port_ = unused_port(), peer_port_ = unused_port();
  std::unique_ptr<os::Child> server_;
};

TEST_CASE_TEMPLATE_INVOKE(arbiter_create, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_swap, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_again, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_missing, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_generations, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_race, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_create_race, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_garbage, EtcdWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_restart, EtcdWorld);

// Takes one request after another to `to`; the answers never come back.
class SwallowAnswers {
 public:
  explicit SwallowAnswers(std::uint16_t to) : to_(to), listening_(listen_somewhere()) {
    REQUIRE(::pipe2(stop_, O_CLOEXEC) == 0);
    thread_ = std::jthread([this] { run(); });
  }
  ~SwallowAnswers() {
    ::close(stop_[1]);
    thread_.join();
    ::close(stop_[0]);
  }
  std::string endpoint() const { return url(port_of(listening_)); }

 private:
  void run() {
    for (;;) {
      auto client = os::accept_socket(listening_.get(), stop_[0], kGenerous);
      if (!client) return;
      const auto to = os::resolve({"127.0.0.1", to_}, os::ResolveFor::connecting);
      auto server = os::connect_socket(to->front(), kGenerous);
      if (!server) return;
      pollfd fds[] = {{client->get(), POLLIN, 0}, {server->get(), POLLIN, 0}, {stop_[0], 0, 0}};
      // Until the server has begun to answer: then it has done what it was asked for.
      while (::poll(fds, 3, -1) > 0 && !fds[1].revents && !fds[2].revents) {
        char bytes[4096];
        const ssize_t got = ::read(client->get(), bytes, sizeof bytes);
        if (got <= 0 || ::write(server->get(), bytes, static_cast<std::size_t>(got)) != got) break;
      }
    }
  }

  std::uint16_t to_;
  os::ScopedFd listening_;
  int stop_[2] = {-1, -1};
  std::jthread thread_;
};

std::uint16_t port_in(const std::string& endpoint) {
  return static_cast<std::uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
}

TEST_CASE("arbiter etcd: a server that stands still or died is unknown, within the time given") {
  EtcdWorld world;
  const auto guest = guest_named("db");
  check_won(world.connect()->create(guest, record_of(1, 1)), record_of(1, 1));
  const auto arbiter = arbiter_at({world.endpoint()}, Millis{1000});
  REQUIRE(world.server().signal(SIGSTOP).ok());
  const auto before = Clock::now();
  const auto swap = arbiter->swap(guest, record_of(1, 1), record_of(2, 1));
  const auto read = arbiter->read(guest);
  CHECK(Clock::now() - before < std::chrono::seconds{10});  // Two requests of one second.
  CHECK(swap.outcome == SwapOutcome::unknown);
  CHECK(read.outcome == ReadAnswer::Outcome::unknown);
  CHECK_FALSE(swap.detail.empty());
  REQUIRE(world.server().signal(SIGCONT).ok());
  // Whether it happened shows now; asked again, it is definite either way.
  check_won(world.connect()->swap(guest, record_of(1, 1), record_of(2, 1)), record_of(2, 1));

  world.server().kill_and_reap();
  CHECK(arbiter->swap(guest, record_of(2, 1), record_of(3, 1)).outcome == SwapOutcome::unknown);
  CHECK(arbiter->read(guest).outcome == ReadAnswer::Outcome::unknown);
  CHECK(arbiter->create(guest_named("x"), record_of(1, 1)).outcome == SwapOutcome::unknown);
}

TEST_CASE("arbiter etcd: the next endpoint is asked when one is dead, hangs or lost its answer") {
  EtcdWorld world;
  const auto guest = guest_named("db");
  const os::ScopedFd hanging = listen_somewhere();  // Takes connections, never answers.
  SwallowAnswers swallowing(port_in(world.endpoint()));
  const struct {
    const char* why;
    std::string endpoint;
  } firsts[] = {{"dead", url(unused_port())},
                {"hangs", url(port_of(hanging))},
                {"did it, and its answer is lost", swallowing.endpoint()}};
  std::uint64_t g = 0;
  for (const auto& first : firsts) {
    CAPTURE(first.why);
    const auto name = guest_named(("db" + std::to_string(g)).c_str());
    const auto arbiter = arbiter_at({first.endpoint, world.endpoint()}, std::chrono::seconds{4});
    check_won(arbiter->create(name, record_of(1, 1)), record_of(1, 1));
    check_lost(arbiter->create(name, record_of(1, 2)), record_of(1, 1));
    check_won(arbiter->swap(name, record_of(1, 1), record_of(2, 1)), record_of(2, 1));
    check_lost(arbiter->swap(name, record_of(1, 1), record_of(2, 2)), record_of(2, 1));
    check_found(arbiter->read(name), record_of(2, 1));
    ++g;
  }
  const auto alone = arbiter_at({swallowing.endpoint()}, std::chrono::seconds{4});
  check_won(world.connect()->create(guest, record_of(1, 1)), record_of(1, 1));
  CHECK(alone->swap(guest, record_of(1, 1), record_of(2, 1)).outcome == SwapOutcome::unknown);
  check_found(world.connect()->read(guest), record_of(2, 1));  // And it had happened.
}

TEST_CASE("arbiter etcd: the same record in other words is still the same record") {
  EtcdWorld world;
  const auto guest = guest_named("db");
  auto client = EtcdClient::open(options_for({world.endpoint()}, kGenerous));
  REQUIRE(client);
  EtcdClient::Transaction transaction;
  transaction.key = "/libft/guests/db";
  transaction.value = "  " + to_string(record_of(1, 1)) + "\n";
  REQUIRE((*client)->transact(transaction)->stored);
  const auto arbiter = world.connect();
  check_found(arbiter->read(guest), record_of(1, 1));
  check_won(arbiter->swap(guest, record_of(1, 1), record_of(2, 1)), record_of(2, 1));
  check_found(arbiter->read(guest), record_of(2, 1));
}

}  // namespace
}  // namespace libft::conformance
