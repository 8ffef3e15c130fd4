// SPDX-License-Identifier: LGPL-2.1-or-later
// The machine as a guest: the bank, which writes all the time, and the key-value server, which
// answers.
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "conformance/deterministic_guest_suite.h"
#include "guest/machine/machine_guest.h"
#include "support/moment.h"
#include "unit/guest/machine/guest_image.h"
#include "unit/guest/machine/udp_frames.h"

using namespace libft;
using machine::MachineGuest;
using machine::MachineGuestOptions;

namespace {

std::unique_ptr<MachineGuest> make_guest(MachineGuestOptions options) {
  auto made = MachineGuest::create(std::move(options));
  REQUIRE(made);
  return std::move(*made);
}

class BankPair final : public test::GuestPair {
 public:
  explicit BankPair(unsigned harts)
      : primary_(make(harts, false, audits_[0])), backup_(make(harts, true, audits_[1])) {}
  Guest& primary() override { return *primary_; }
  Guest& backup() override { return *backup_; }
  void work(Guest& guest) override {
    std::atomic<unsigned>& audits = audits_[&guest == primary_.get() ? 0 : 1];
    const unsigned before = audits;
    for (int i = 0; i < 20000 && audits < before + 2; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    REQUIRE(audits >= before + 2);
  }
  bool exact() const override { return true; }

 private:
  static std::unique_ptr<MachineGuest> make(unsigned harts, bool standby,
                                            std::atomic<unsigned>& audits) {
    MachineGuestOptions options;
    options.machine = test::bare_metal("bank", harts);
    options.standby = standby;
    options.console = [&audits](std::span<const std::byte> bytes) {
      for (const std::byte byte : bytes) {
        CHECK(byte != std::byte{'W'});  // WRONG: the total changed.
        audits += byte == std::byte{'\n'} ? 1 : 0;
      }
    };
    return make_guest(std::move(options));
  }

  std::array<std::atomic<unsigned>, 2> audits_{};
  std::unique_ptr<MachineGuest> primary_, backup_;
};

class KeyValuePair final : public test::DeterministicPair {
 public:
  enum class With { nothing, disk };
  explicit KeyValuePair(unsigned harts = 1, With with = With::nothing)
      : primary_(make(harts, with, false, cables_[0])),
        backup_(make(harts, with, true, cables_[1])) {}
  Guest& primary() override { return *primary_; }
  Guest& backup() override { return *backup_; }
  DeterministicGuest& facet(Guest& guest) override { return static_cast<MachineGuest&>(guest); }

  GuestInput question(unsigned number) override {
    return {GuestInput::Kind::frame, test::kv_request(text(number))};
  }
  // Again, if it came before the guest had set its interface up.
  void ask_from_outside(Guest& guest, unsigned number) override {
    const int fd = cables_[&guest == primary_.get() ? 0 : 1].get();
    const std::vector<std::byte> frame = test::kv_request(text(number));
    for (int tries = 0; tries < 100; ++tries) {
      REQUIRE(::send(fd, frame.data(), frame.size(), 0) > 0);
      pollfd ready{fd, POLLIN, 0};
      while (::poll(&ready, 1, 200) == 1) {
        std::array<std::byte, 2048> answer;
        const ssize_t got = ::recv(fd, answer.data(), answer.size(), 0);
        REQUIRE(got > 0);
        if (is_announcement(answer)) continue;
        CHECK(test::kv_answer(std::span(answer).first(static_cast<std::size_t>(got))) == "OK");
        return;
      }
    }
    FAIL("the guest does not answer");
  }

 private:
  // A machine that begins to run on a host tells the switches (RARP, 0x8035).
  static bool is_announcement(std::span<const std::byte> frame) {
    return frame[12] == std::byte{0x80} && frame[13] == std::byte{0x35};
  }
  static std::string text(unsigned number) {
    return "S key" + std::to_string(number) + " value" + std::to_string(number);
  }
  static std::unique_ptr<MachineGuest> make(unsigned harts, With with, bool standby,
                                            os::ScopedFd& outside) {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    outside.reset(ends[0]);
    MachineGuestOptions options;
    options.machine = test::bare_metal("kv", harts);
    options.machine.smp = machine::Smp::threads;
    if (with == With::disk) {
      auto disk = machine::Disk::in_memory(512 * 512);
      REQUIRE(disk);
      options.machine.writable_disk = std::move(*disk);
    }
    options.standby = standby;
    options.nic.reset(ends[1]);
    return make_guest(std::move(options));
  }

  std::array<os::ScopedFd, 2> cables_;
  std::unique_ptr<MachineGuest> primary_, backup_;
};

}  // namespace

TEST_CASE("machine guest") {
  test::guest_suite([] { return std::make_unique<BankPair>(1); });
}

TEST_CASE("machine guest with three harts") {
  test::guest_suite([] { return std::make_unique<BankPair>(3); });
}

TEST_CASE("machine guest as a deterministic one") {
  test::deterministic_guest_suite([] { return std::make_unique<KeyValuePair>(); });
}

TEST_CASE("machine guest whose harts execute at once, as a deterministic one") {
  test::deterministic_guest_suite([] { return std::make_unique<KeyValuePair>(2); });
}

TEST_CASE("machine guest that writes to its disk, as a deterministic one") {
  test::deterministic_guest_suite(
      [] { return std::make_unique<KeyValuePair>(1, KeyValuePair::With::disk); });
}

TEST_CASE("a machine guest's copy runs, and the guest's own end is an event") {
  MachineGuestOptions options;
  options.machine = test::bare_metal("race", 2);
  std::atomic<int> ended{0};
  auto guest = make_guest(std::move(options));
  guest->set_event_sink([&](const GuestEvent& event) {
    if (event.kind == GuestEvent::Kind::ended) ++ended;
  });
  if (guest->pause().ok()) {  // It may have raced to its end.
    test::check_ok(guest->save_state());
    std::vector<std::byte> state;
    test::check_ok(guest->fetch_state(state));
    test::NowForTrial moment(state);
    test::check_ok(guest->trial_run(moment));
    test::check_ok(guest->resume());
    for (int i = 0; i < 10000 && ended == 0; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    CHECK(ended == 1);
  }
  CHECK(guest->pause().code() == Code::guest_gone);
}

TEST_CASE("what lies in a machine guest's cable is part of it when it stands still") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  const os::ScopedFd outside(ends[1]);
  MachineGuestOptions options;
  options.machine = test::bare_metal("kv");
  options.nic = os::ScopedFd(ends[0]);
  const auto guest = make_guest(std::move(options));
  const auto frame = test::kv_request("G nothing");
  for (int i = 0; i < 200; ++i) {
    REQUIRE(::send(outside.get(), frame.data(), frame.size(), 0) > 0);
    test::check_ok(guest->pause());
    std::byte byte;
    CHECK(::recv(ends[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0);
    test::check_ok(guest->resume());
  }
}

TEST_CASE("by epochs, a machine guest takes what comes in at the next mark, all of it there") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  const os::ScopedFd outside(ends[1]);
  MachineGuestOptions options;
  options.machine = test::bare_metal("kv");
  options.nic = os::ScopedFd(ends[0]);
  const auto guest = make_guest(std::move(options));
  std::mutex mutex;
  std::vector<Position> taken;
  guest->set_input_sink([&](Position at, const GuestInput& input) {
    const std::lock_guard lock(mutex);
    if (input.kind == GuestInput::Kind::frame) taken.push_back(at);
  });
  guest->set_input_at(InputAt::marks);
  const auto frame = test::kv_request("G nothing");
  for (int i = 0; i < 50; ++i) {
    for (int n = 0; n < 3; ++n) REQUIRE(::send(outside.get(), frame.data(), frame.size(), 0) > 0);
    Position marked;
    test::check_ok(guest->mark(WithHash::no, [&](const Mark& mark) {
      marked = mark.at;
      const std::lock_guard lock(mutex);
      CHECK(taken.empty());  // However far it ran since they came.
    }));
    const std::lock_guard lock(mutex);
    CHECK(taken == std::vector<Position>(3, marked));
    taken.clear();
  }
  // Back to any position, nothing has to be marked for an answer.
  guest->set_input_at(InputAt::any_position);
  REQUIRE(::send(outside.get(), frame.data(), frame.size(), 0) > 0);
  const auto answered = [&] {
    const std::lock_guard lock(mutex);
    return taken.size() == 1;
  };
  for (int i = 0; i < 10000 && !answered(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  CHECK(answered());
}
