// SPDX-License-Identifier: LGPL-2.1-or-later
// What becomes of each event: the table of docs/guest-life.md.
#include "guest/qemu/life.h"

#include <doctest/doctest.h>

using namespace libft;
using namespace libft::qemu;
using Kind = GuestEvent::Kind;

namespace {

Json event(const std::string& name, const Json& data = Json::object(), std::uint64_t at_us = 5) {
  return {{"event", name},
          {"data", data},
          {"timestamp", {{"seconds", at_us / 1'000'000}, {"microseconds", at_us % 1'000'000}}}};
}

std::vector<Kind> kinds(Life& life) {
  std::vector<Kind> kinds;
  for (const GuestEvent& told : life.take_events()) kinds.push_back(told.kind);
  return kinds;
}

}  // namespace

TEST_CASE("libft's own stop and cont are no events, and are counted as lag") {
  Life life;
  life.begin("running");
  life.expect_stop(100);
  life.on_event(event("STOP", {}, 150));
  CHECK(life.stopped_by_us());
  CHECK_FALSE(life.runs());
  life.expect_resume();
  life.on_event(event("RESUME", {}, 400));
  CHECK(life.runs());
  CHECK(kinds(life).empty());
  CHECK(life.stopped_by_libft() == std::chrono::microseconds(250));
}

TEST_CASE("somebody else's stop, also while libft's own is on its way") {
  Life life;
  life.begin("running");
  life.on_event(event("STOP"));
  CHECK(kinds(life) == std::vector<Kind>{Kind::paused});
  life.on_event(event("RESUME"));
  CHECK(kinds(life) == std::vector<Kind>{Kind::resumed});
  life.expect_stop(100);
  life.on_event(event("STOP", {}, 99));
  CHECK_FALSE(life.stopped_by_us());
  CHECK(kinds(life) == std::vector<Kind>{Kind::paused});
  CHECK(life.stopped_by_libft() == Nanos{0});
}

TEST_CASE("one outcome for each way to end") {
  const struct {
    const char* reason;
    Kind kind;
  } table[] = {{"guest-shutdown", Kind::ended}, {"guest-reset", Kind::ended},
               {"host-qmp-quit", Kind::ended},  {"host-signal", Kind::ended},
               {"guest-panic", Kind::crashed},  {"host-error", Kind::process_died}};
  for (const auto& row : table) {
    Life life;
    life.begin("running");
    life.on_event(event("SHUTDOWN", {{"guest", true}, {"reason", row.reason}}));
    life.on_event(event("STOP"));
    life.on_process_end();
    CHECK(kinds(life) == std::vector<Kind>{row.kind});
    CHECK(life.ended());
  }
}

TEST_CASE("a process that ends without a word has died; one that libft ends has not") {
  Life life;
  life.begin("running");
  life.on_process_end();
  CHECK(kinds(life) == std::vector<Kind>{Kind::process_died});
  Life ours;
  ours.begin("running");
  ours.expect_end();
  ours.on_process_end();
  CHECK(kinds(ours).empty());
}

TEST_CASE("reboot, panic, hot-plug, migration") {
  Life life;
  life.begin("running");
  life.on_event(event("RESET", {{"guest", true}, {"reason", "guest-reset"}}));
  life.on_event(event("GUEST_PANICKED", {{"action", "pause"}}));
  life.on_event(event("STOP"));
  CHECK(kinds(life) == std::vector<Kind>{Kind::rebooted, Kind::crashed});
  Life other;
  other.begin("running");
  other.on_event(event("DEVICE_DELETED", {{"device", "d"}}));
  other.on_event(event("BALLOON_CHANGE", {{"actual", 1}}));
  other.on_event(event("MIGRATION", {{"status", "setup"}}));
  CHECK(kinds(other) == std::vector<Kind>{Kind::reconfigured, Kind::reconfigured, Kind::migrating});
  other.expect_migration(true);
  other.on_event(event("MIGRATION", {{"status", "setup"}}));
  CHECK(kinds(other).empty());
}
