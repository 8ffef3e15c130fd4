// SPDX-License-Identifier: LGPL-2.1-or-later
// One session after another goes on with the same replica, as two programs of one process would:
// what the peer, the record and the world see of it.
#include <doctest/doctest.h>

#include <mutex>
#include <vector>

#include "base/bytes.h"
#include "guest/memory/forwarding_guest.h"
#include "session/held.h"
#include "unit/session/host.h"

using namespace libft;
using namespace libft::test;

namespace {

using guest::MemoryGuest;
using output::MemoryGate;
constexpr Nanos kHold = std::chrono::seconds(5);

// A gate of one thread, for the guest's and a session's.
struct LockedGate {
  std::mutex mutex;
  std::unique_ptr<MemoryGate> gate;
  template <class Use>
  auto with(Use use) {
    const std::scoped_lock lock(mutex);
    return use(*gate);
  }
};

// A guest and its output, which outlive the sessions that use them; and the world behind them.
struct Outside {
  std::shared_ptr<MemoryGuest> guest;
  std::shared_ptr<LockedGate> gate = std::make_shared<LockedGate>();
  std::mutex mutex;
  std::vector<std::uint64_t> heard;

  explicit Outside(bool standby)
      : guest(std::make_shared<MemoryGuest>(
            guest::MemoryGuestOptions{.pages = 512, .seed = 3, .standby = standby})) {
    auto made = MemoryGate::create({}, [this](std::span<const std::byte> frame) {
      const std::scoped_lock lock(mutex);
      heard.push_back(base::load_le<std::uint64_t>(frame.data()));
    });
    REQUIRE(made);
    gate->gate = std::move(*made);
    guest->set_output_sink([this](guest::MemoryGuestOutput output) {
      const auto frame = std::as_bytes(std::span(&output.counter, 1));
      REQUIRE(gate->with([&](MemoryGate& to) { return to.emit(frame); }));
    });
  }
  std::size_t heard_so_far() {
    const std::scoped_lock lock(mutex);
    return heard.size();
  }
};

class LentGuest final : public guest::ForwardingGuest {
 public:
  explicit LentGuest(std::shared_ptr<Guest> inner)
      : ForwardingGuest(std::move(inner)), info_(inner_->info()) {
    info_.tracking_stays = true;
  }
  const GuestInfo& info() const override { return info_; }

 private:
  GuestInfo info_;
};

class LentGate final : public OutputGate {
 public:
  explicit LentGate(std::shared_ptr<LockedGate> inner) : inner_(std::move(inner)) {}
  GateLimits limits() const override {
    return inner_->with([](auto& gate) { return gate.limits(); });
  }
  void set_waiting_sink(std::function<void()> sink) override {
    inner_->with([&](auto& gate) { gate.set_waiting_sink(std::move(sink)); });
  }
  Status hold() override {
    return inner_->with([](auto& gate) { return gate.hold(); });
  }
  Status seal(EpochId id) override {
    return inner_->with([&](auto& gate) { return gate.seal(id); });
  }
  Status release(EpochId id) override {
    return inner_->with([&](auto& gate) { return gate.release(id); });
  }
  void discard() override {
    inner_->with([](auto& gate) { gate.discard(); });
  }
  Status open() override {
    return inner_->with([](auto& gate) { return gate.open(); });
  }
  GateStatistics statistics() const override {
    return inner_->with([](auto& gate) { return gate.statistics(); });
  }

 private:
  std::shared_ptr<LockedGate> inner_;
};

struct Pair {
  std::string folder = temporary_folder();
  Outside primary{false}, backup{true};
  Host a{"a", folder}, b{"b", folder};
  Host *first = &a, *second = &b;  // Who serves them now.

  Pair() {
    lend(a, primary);
    lend(b, backup);
    a.protect();
    b.stand_by(a.address);
    REQUIRE(a.reaches("protecting"));
    REQUIRE(b.reaches("in_sync"));
  }
  ~Pair() {
    b.die();
    a.die();
    std::filesystem::remove_all(folder);
  }
  static void lend(Host& host, Outside& outside) {
    host.make_replica = [&outside](bool) {
      return Replica{std::make_unique<LentGate>(outside.gate),
                     std::make_unique<LentGuest>(outside.guest)};
    };
  }
  // Writes, and says something that the world is to hear.
  void work() {
    primary.guest->step(60);
    REQUIRE(primary.guest->emit(1));
  }
  void check_heard_all(std::size_t count) {
    REQUIRE(
        first->eventually([&](const SessionStatus&) { return primary.heard_so_far() == count; }));
    for (std::size_t i = 0; i < count; ++i) CHECK(primary.heard[i] == i + 1);
  }
  void check_same_memory() {
    const auto same = first->session->verify(std::chrono::seconds(20));
    CHECK_MESSAGE(same, (same ? "" : same.error().to_string()));
  }
};

}  // namespace

TEST_CASE("a primary is taken up where it stood still: the same life, no copy, nothing lost") {
  Pair pair;
  const auto before = pair.a.session->status();
  pair.work();
  const auto held = pair.a.session->hold(kHold);
  REQUIRE_MESSAGE(held, held.error().to_string());
  CHECK(pair.primary.guest->step(1) == 0);  // It stands still,
  pair.check_heard_all(1);                  // and what it said is out.
  const std::string address = pair.a.address;
  pair.a.die();

  Host next("a", pair.folder);
  Pair::lend(next, pair.primary);
  next.options.held = held->bytes;
  REQUIRE(held->set_running);
  REQUIRE(pair.primary.guest->resume());
  pair.work();  // Nobody looks: the next session must find these pages, and release this output.
  auto made = Session::protect(next.parts(), next.replica(false), next.options);
  REQUIRE_MESSAGE(made, (made ? "" : made.error().to_string()));
  next.session = std::move(*made);
  auto listener = transport::listen(address, {});
  REQUIRE(listener);
  next.switchboard = Switchboard::open(std::move(*listener), next.log);
  next.switchboard->add(*GuestId::from_name("db"), *next.session);
  pair.first = &next;
  pair.work();
  pair.check_heard_all(3);
  REQUIRE(next.eventually([](const SessionStatus& s) { return s.is_protected; }));
  pair.check_same_memory();
  const auto after = next.session->status();
  CHECK(after.self == before.self);
  CHECK(after.generation == before.generation);
  CHECK(after.epoch_released > before.epoch_released);
  CHECK(after.sync_pages_sent == 0);
  CHECK(pair.b.session->status().state == "in_sync");
  CHECK(pair.b.session->status().failovers == 0);
  next.die();
}

TEST_CASE(
    "a backup is taken up where it stood still: the same life, no copy, and it can take over") {
  Pair pair;
  const auto before = pair.b.session->status();
  pair.work();
  const auto held = pair.b.session->hold(kHold);
  REQUIRE_MESSAGE(held, held.error().to_string());
  pair.b.die();
  pair.work();

  Host next("b", pair.folder);
  Pair::lend(next, pair.backup);
  next.options.held = held->bytes;
  next.stand_by(pair.a.address);
  REQUIRE(next.reaches("in_sync"));
  pair.check_heard_all(2);
  REQUIRE(pair.a.eventually([](const SessionStatus& s) { return s.is_protected; }));
  pair.check_same_memory();
  CHECK(next.session->status().self == before.self);
  CHECK(next.session->status().generation == before.generation);
  CHECK(pair.a.session->status().generation == before.generation);
  pair.work();
  pair.check_heard_all(3);
  const auto steps = pair.primary.guest->steps_done();
  REQUIRE(pair.a.session->switch_over());
  REQUIRE(next.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  CHECK(pair.backup.guest->steps_done() == steps);
  CHECK(pair.backup.guest->running());
  next.die();
}

TEST_CASE("a hold that leads to nothing is let go, and all goes on") {
  Pair pair;
  for (Host* host : {&pair.a, &pair.b}) {
    CHECK(host->session->let_go().code() == Code::invalid);
    const auto held = host->session->hold(kHold);
    REQUIRE_MESSAGE(held, held.error().to_string());
    REQUIRE(host->session->let_go());
    REQUIRE(pair.a.eventually([&](const SessionStatus&) { return pair.primary.guest->running(); }));
    pair.work();
    pair.check_heard_all(host == &pair.a ? 1 : 2);
    pair.check_same_memory();
  }
  CHECK(pair.a.session->status().generation == Generation{2});
}

TEST_CASE(
    "a primary that is not taken up loses its guest to the backup, and what it left is void") {
  Pair pair;
  pair.work();
  const auto held = pair.a.session->hold(Millis{500});
  REQUIRE_MESSAGE(held, held.error().to_string());
  pair.a.die();
  REQUIRE(pair.b.eventually([](const SessionStatus& s) { return s.role == Role::primary; }));
  CHECK(pair.backup.guest->running());

  Host late("a", pair.folder);
  Pair::lend(late, pair.primary);
  late.options.held = held->bytes;
  late.protect();
  REQUIRE(late.eventually([](const SessionStatus& s) { return s.role == Role::fenced; }));
  CHECK_FALSE(pair.primary.guest->running());
  CHECK(pair.primary.heard_so_far() == 1);
  late.die();
}

TEST_CASE("a hold is refused where the next process could not go on") {
  const auto folder = temporary_folder();
  Host a("a", folder), b("b", folder);
  a.protect();
  CHECK(a.session->hold(kHold).error().code() == Code::refused);  // No backup.
  b.stand_by(a.address);
  REQUIRE(a.reaches("protecting"));
  REQUIRE(b.reaches("in_sync"));
  const auto lives_here = a.session->hold(kHold);
  REQUIRE_FALSE(lives_here);
  CHECK(lives_here.error().code() == Code::unsupported);
  CHECK(a.session->hold(Nanos{0}).error().code() == Code::invalid);
  CHECK(a.session->hold(kHoldMax + Millis{1}).error().code() == Code::invalid);
  CHECK(a.guest->running());
  CHECK(a.session->status().is_protected);
  std::filesystem::remove_all(folder);
}

TEST_CASE("what a held session left behind is read again, and nothing else is") {
  const auto guest = *GuestId::from_name("db");
  session::Held held;
  held.role = session::Held::Role::backup;
  held.primary = {"a", {1}};
  held.backup = {"b", {2}};
  held.generation = Generation{7};
  held.newest = {Generation{6}, Epoch{40}};
  held.guest_paused = true;
  held.shape = {"qemu", "QEMU", "{}", 4096, 2, {{"ram", PageNo{0}, 512}}};
  held.state = std::vector<std::byte>(300, std::byte{9});
  const auto bytes = session::encode(held, guest);
  const auto read = session::decode_held(bytes, guest);
  REQUIRE_MESSAGE(read, read.error().to_string());
  CHECK(*read == held);
  CHECK_FALSE(session::decode_held(bytes, *GuestId::from_name("other")));
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_FALSE(session::decode_held(std::span(bytes).first(size), guest));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto spoiled = bytes;
    spoiled[at] ^= std::byte{0x10};
    CHECK_FALSE(session::decode_held(spoiled, guest));
  }
  auto other = bytes;
  other[4] ^= std::byte{2};
  CHECK(session::decode_held(other, guest).error().code() == Code::unsupported);
}
