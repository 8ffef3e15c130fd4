// SPDX-License-Identifier: LGPL-2.1-or-later
// docs/guest-life.md, row by row, with a real QEMU: what its owner, its software or its host does
// to the guest, and what libft makes of it.
#include <csignal>

#include "qemu/qmp.h"
#include "lab/qemu/tiny_guest.h"

using namespace libft;
using qemu::Qmp;
using Kind = GuestEvent::Kind;

namespace {

struct Watched : test::TinyGuest {
  Watched() {
    guest->set_event_sink([this](const GuestEvent& event) {
      const std::scoped_lock lock(mutex);
      events.push_back(event);
    });
    auto connected = Qmp::connect(folder / "owner", nullptr);
    REQUIRE_MESSAGE(connected, connected.error().to_string());
    owner = std::move(*connected);
  }
  ~Watched() { guest->set_event_sink(nullptr); }

  bool told(Kind kind) {
    return test::eventually([&] { return count(kind) > 0; });
  }
  std::size_t count(Kind kind) {
    const std::scoped_lock lock(mutex);
    return static_cast<std::size_t>(std::count_if(
        events.begin(), events.end(), [&](const GuestEvent& event) { return event.kind == kind; }));
  }
  std::size_t all() {
    const std::scoped_lock lock(mutex);
    return events.size();
  }
  std::string status() {
    auto answer = owner->execute("query-status");
    return answer ? qemu::text_at(*answer, "status") : answer.error().to_string();
  }

  std::unique_ptr<Qmp> owner;
  std::mutex mutex;
  std::vector<GuestEvent> events;
};

void checkpoint(Guest& guest) {
  PageSet written;
  REQUIRE(guest.pause().ok());
  REQUIRE(guest.take_written(written).ok());
  REQUIRE(guest.save_state().ok());
  REQUIRE(guest.resume().ok());
}

}  // namespace

TEST_CASE("life of a guest" * doctest::skip(!test::qemu_is_there())) {
  Watched watched;
  Guest& guest = *watched.guest;
  REQUIRE(guest.start_tracking().ok());

  SUBCASE("libft's own pauses are no events") {
    for (int i = 0; i < 20; ++i) checkpoint(guest);
    CHECK(test::counts_on(guest));
    CHECK(watched.all() == 0);
  }
  SUBCASE("powered off by its software: ended, and QEMU waits for libft") {
    test::order(guest, 1);
    CHECK(watched.told(Kind::ended));
    checkpoint(guest);  // The last state can still be read.
    CHECK(watched.status() == "shutdown");
    CHECK(watched.all() == 1);
  }
  SUBCASE("reset by its software: rebooted, goes on") {
    test::order(guest, 2);
    CHECK(watched.told(Kind::rebooted));
    checkpoint(guest);  // The firmware may not find the multiboot image again: not our subject.
    CHECK(watched.status() == "running");
    CHECK(watched.count(Kind::rebooted) == watched.all());
  }
  SUBCASE("panic: crashed, and not set running again") {
    test::order(guest, 3);
    CHECK(watched.told(Kind::crashed));
    checkpoint(guest);
    CHECK(watched.status() != "running");
  }
  SUBCASE("stopped by its owner: stays so through checkpoints, until he lets it run") {
    REQUIRE(watched.owner->execute("stop"));
    CHECK(watched.told(Kind::paused));
    checkpoint(guest);
    checkpoint(guest);
    CHECK(watched.status() == "paused");
    REQUIRE(watched.owner->execute("cont"));
    CHECK(watched.told(Kind::resumed));
    checkpoint(guest);
    CHECK(watched.status() == "running");
    CHECK(watched.all() == 2);
  }
  SUBCASE("ended by its owner") {
    REQUIRE(watched.owner->execute("quit"));
    CHECK(watched.told(Kind::ended));
    CHECK(test::eventually([&] { return guest.pause().code() == Code::guest_gone; }));
    CHECK(watched.all() == 1);
  }
  SUBCASE("the process is killed") {
    REQUIRE(::kill(watched.guest->pid(), SIGKILL) == 0);
    CHECK(watched.told(Kind::process_died));
    CHECK(watched.all() == 1);
  }
  SUBCASE("migrated by its owner") {
    REQUIRE(watched.owner->execute("migrate", {{"uri", "exec:cat >/dev/null"}}));
    CHECK(watched.told(Kind::migrating));
  }
  SUBCASE("libft itself ends it: no event") {
    guest.destroy();
    CHECK(guest.pause().code() == Code::guest_gone);
    CHECK(watched.all() == 0);
  }
}
