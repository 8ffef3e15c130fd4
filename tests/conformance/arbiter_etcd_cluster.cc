// SPDX-License-Identifier: LGPL-2.1-or-later
// Against three real members of etcd that know each other and their clients by certificates: what
// a pair of hosts is meant to be used with.
#include <array>
#include <csignal>

#include "conformance/etcd_process.h"
#include "conformance/temp_folder.h"

namespace libft::conformance {
namespace {

using failover::EtcdArbiter;
using failover::EtcdClient;
using failover::EtcdOptions;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMembers = 3;

void run(std::vector<std::string> argv) {
  auto child = os::Child::start({.argv = std::move(argv)});
  REQUIRE_MESSAGE(child, (child ? "" : child.error().to_string()));
  const auto end = child->wait(kGenerous);
  REQUIRE(end);
  REQUIRE(end->clean());
}

// An authority of its own, and one certificate that serves servers and clients.
class Certificates {
 public:
  Certificates() {
    run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=authority", "-keyout", file("ca.key"), "-out",
         file("ca")});
    run({"openssl",
         "req",
         "-x509",
         "-newkey",
         "ec",
         "-pkeyopt",
         "ec_paramgen_curve:prime256v1",
         "-nodes",
         "-days",
         "2",
         "-subj",
         "/CN=member",
         "-addext",
         "subjectAltName=IP:127.0.0.1",
         "-addext",
         "basicConstraints=CA:FALSE",
         "-CA",
         file("ca"),
         "-CAkey",
         file("ca.key"),
         "-keyout",
         file("key"),
         "-out",
         file("cert")});
  }
  std::string file(const std::string& name) const { return folder_.path() + "/" + name; }

 private:
  TempFolder folder_;
};

class ClusterWorld {
 public:
  static std::unique_ptr<ClusterWorld> create() { return std::make_unique<ClusterWorld>(); }
  ClusterWorld() {
    for (std::size_t n = 0; n < kMembers; ++n) start(n);
    wait_until_it_answers(*connect());
  }

  EtcdOptions options(Nanos total = kGenerous) const {
    EtcdOptions options;
    for (const auto port : client_ports_) options.endpoints.push_back(url(port));
    options.total = total;
    options.ca_file = certificates().file("ca");
    options.cert_file = certificates().file("cert");
    options.key_file = certificates().file("key");
    return options;
  }
  static std::unique_ptr<Arbiter> open(EtcdOptions options) {
    auto arbiter = EtcdArbiter::open(std::move(options));
    REQUIRE_MESSAGE(arbiter, (arbiter ? "" : arbiter.error().to_string()));
    return std::move(*arbiter);
  }
  std::unique_ptr<Arbiter> connect() const { return open(options()); }

  std::string spoil(const GuestId& guest) {
    auto client = EtcdClient::open(options());
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

  void kill(std::size_t n) { members_[n]->kill_and_reap(); }
  os::Child& member(std::size_t n) { return *members_[n]; }
  void restart() {
    for (std::size_t n = 0; n < kMembers; ++n) kill(n);
    for (std::size_t n = 0; n < kMembers; ++n) start(n);
    wait_until_it_answers(*connect());
  }
  void start(std::size_t n) {
    const auto& c = certificates();
    const std::string own = url(client_ports_[n]), peer = url(peer_ports_[n]);
    std::string cluster;
    for (std::size_t m = 0; m < kMembers; ++m)
      cluster += (m == 0 ? "" : ",") + name(m) + "=" + url(peer_ports_[m]);
    members_[n] =
        start_etcd({"--name=" + name(n), "--data-dir=" + folder_.path() + "/" + name(n),
                    "--listen-client-urls=" + own, "--advertise-client-urls=" + own,
                    "--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
                    "--initial-cluster=" + cluster, "--client-cert-auth", "--peer-client-cert-auth",
                    "--trusted-ca-file=" + c.file("ca"), "--cert-file=" + c.file("cert"),
                    "--key-file=" + c.file("key"), "--peer-trusted-ca-file=" + c.file("ca"),
                    "--peer-cert-file=" + c.file("cert"), "--peer-key-file=" + c.file("key"),
                    // A busy machine must not make them elect all the time.
                    "--heartbeat-interval=200", "--election-timeout=2000"});
  }

 private:
  static const Certificates& certificates() {
    static const Certificates made;
    return made;
  }
  static std::string url(std::uint16_t port) { return fmt::format("https://127.0.0.1:{}", port); }
  static std::string name(std::size_t n) { return "m" + std::to_string(n); }

  TempFolder folder_;
  std::array<std::uint16_t, kMembers> client_ports_{unused_port(), unused_port(), unused_port()},
      peer_ports_{unused_port(), unused_port(), unused_port()};
  std::array<std::unique_ptr<os::Child>, kMembers> members_;
};

TEST_CASE_TEMPLATE_INVOKE(arbiter_swap, ClusterWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_again, ClusterWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_missing, ClusterWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_race, ClusterWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_create_race, ClusterWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_garbage, ClusterWorld);
TEST_CASE_TEMPLATE_INVOKE(arbiter_restart, ClusterWorld);

// As a replica does: the same swap again until the answer is definite.
SwapAnswer insist(Arbiter& arbiter, const GuestId& guest, const OwnershipRecord& from,
                  const OwnershipRecord& to) {
  const auto end = Clock::now() + kGenerous;
  for (;;) {
    const SwapAnswer answer = arbiter.swap(guest, from, to);
    if (answer.outcome != SwapOutcome::unknown) return answer;
    INFO(answer.detail);
    REQUIRE(Clock::now() < end);
  }
}

TEST_CASE("arbiter etcd cluster: whichever member dies, the records go on") {
  ClusterWorld world;
  const auto guest = guest_named("db");
  const auto arbiter = ClusterWorld::open(world.options(std::chrono::seconds{3}));
  check_won(arbiter->create(guest, record_of(1, 1)), record_of(1, 1));
  std::uint64_t g = 1;
  for (std::size_t n = 0; n < kMembers; ++n) {  // One of them is the leader.
    CAPTURE(n);
    world.kill(n);
    check_won(insist(*arbiter, guest, record_of(g, 1), record_of(g + 1, 1)), record_of(g + 1, 1));
    ++g;
    check_lost(insist(*arbiter, guest, record_of(g - 1, 1), record_of(g, 2)), record_of(g, 1));
    world.start(n);
    wait_until_it_answers(*world.connect());
  }
}

TEST_CASE("arbiter etcd cluster: a minority answers unknown, in time, and knows again later") {
  ClusterWorld world;
  const auto guest = guest_named("db");
  const auto arbiter = ClusterWorld::open(world.options(std::chrono::seconds{3}));
  check_won(world.connect()->create(guest, record_of(1, 1)), record_of(1, 1));
  world.kill(0);
  world.kill(1);
  const auto before = Clock::now();
  CHECK(arbiter->swap(guest, record_of(1, 1), record_of(2, 1)).outcome == SwapOutcome::unknown);
  CHECK(arbiter->read(guest).outcome == ReadAnswer::Outcome::unknown);
  CHECK(Clock::now() - before < std::chrono::seconds{20});  // Two requests of three seconds.
  world.start(0);
  check_won(insist(*arbiter, guest, record_of(1, 1), record_of(2, 1)), record_of(2, 1));
}

TEST_CASE("arbiter etcd cluster: members that stand still elect another leader without doubt") {
  ClusterWorld world;
  const auto guest = guest_named("db");
  const auto arbiter = ClusterWorld::open(world.options(std::chrono::seconds{3}));
  check_won(world.connect()->create(guest, record_of(1, 1)), record_of(1, 1));
  std::uint64_t g = 1;
  for (std::size_t n = 0; n < kMembers; ++n) {
    CAPTURE(n);
    REQUIRE(world.member(n).signal(SIGSTOP).ok());
    // The one that stands still took the request and may do it when it wakes up.
    check_won(insist(*arbiter, guest, record_of(g, 1), record_of(g + 1, 1)), record_of(g + 1, 1));
    ++g;
    REQUIRE(world.member(n).signal(SIGCONT).ok());
    check_won(insist(*arbiter, guest, record_of(g, 1), record_of(g + 1, 2)), record_of(g + 1, 2));
    ++g;
    check_won(insist(*arbiter, guest, record_of(g, 2), record_of(g + 1, 1)), record_of(g + 1, 1));
    ++g;
  }
  check_found(world.connect()->read(guest), record_of(g, 1));
}

TEST_CASE("arbiter etcd cluster: without the right certificates nothing is known") {
  ClusterWorld world;
  const auto guest = guest_named("db");
  check_won(world.connect()->create(guest, record_of(1, 1)), record_of(1, 1));

  EtcdOptions options = world.options(std::chrono::seconds{3});
  options.ca_file.clear();  // The system's authorities do not know ours.
  auto answer = ClusterWorld::open(options)->read(guest);
  CHECK(answer.outcome == ReadAnswer::Outcome::unknown);
  CHECK_MESSAGE(answer.detail.find("https://127.0.0.1") != std::string::npos, answer.detail);

  options = world.options(std::chrono::seconds{3});
  options.cert_file.clear();
  options.key_file.clear();
  CHECK(ClusterWorld::open(options)->read(guest).outcome == ReadAnswer::Outcome::unknown);

  options = world.options(std::chrono::seconds{3});
  for (auto& endpoint : options.endpoints) endpoint.erase(4, 1);  // http
  CHECK(ClusterWorld::open(options)->read(guest).outcome == ReadAnswer::Outcome::unknown);
  check_found(world.connect()->read(guest), record_of(1, 1));
}

}  // namespace
}  // namespace libft::conformance
