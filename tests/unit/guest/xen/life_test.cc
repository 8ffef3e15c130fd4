// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/life.h"

#include <doctest/doctest.h>

#include "guest/xen/facts.h"

namespace libft::xen {
namespace {

using Kind = GuestEvent::Kind;

DomainInfo shut_down(unsigned reason) {
  DomainInfo info;
  info.shutdown = true;
  info.reason = reason;
  return info;
}

std::vector<Kind> kinds(const Judge::Verdict& verdict) {
  std::vector<Kind> found;
  for (const GuestEvent& event : verdict.events) found.push_back(event.kind);
  return found;
}

TEST_CASE("each reason of an end is told once, as what it is") {
  const auto after = [](unsigned reason) {
    Judge judge;
    auto first = kinds(judge.on_look(shut_down(reason), false, false));
    CHECK(judge.ended());
    CHECK(kinds(judge.on_look(shut_down(reason), false, false)).empty());
    return first;
  };
  CHECK(after(kShutdownPoweroff) == std::vector{Kind::ended});
  CHECK(after(kShutdownReboot) == std::vector{Kind::ended});
  CHECK(after(kShutdownCrash) == std::vector{Kind::crashed, Kind::ended});
  CHECK(after(kShutdownWatchdog) == std::vector{Kind::crashed, Kind::ended});
}

TEST_CASE("a domain that is destroyed has ended, and nothing of it can be captured") {
  Judge judge;
  CHECK(kinds(judge.on_look(std::nullopt, false, false)) ==
        std::vector{Kind::ended, Kind::process_died});
  CHECK(kinds(judge.on_look(std::nullopt, false, false)).empty());
}

TEST_CASE("a domain that shut down and is removed later tells both") {
  Judge judge;
  CHECK(kinds(judge.on_look(shut_down(kShutdownPoweroff), false, false)) ==
        std::vector{Kind::ended});
  CHECK(kinds(judge.on_look(std::nullopt, false, false)) == std::vector{Kind::process_died});
  CHECK(kinds(judge.on_look(std::nullopt, false, false)).empty());
}

TEST_CASE("our own suspend is no event, somebody else's is a migration") {
  Judge judge;
  CHECK(kinds(judge.on_look(shut_down(kShutdownSuspend), true, false)).empty());
  CHECK(kinds(judge.on_look(DomainInfo{}, false, false)).empty());
  CHECK(kinds(judge.on_look(shut_down(kShutdownSuspend), false, false)) ==
        std::vector{Kind::migrating});
  CHECK(kinds(judge.on_look(shut_down(kShutdownSuspend), false, false)).empty());
}

TEST_CASE("a guest that answers late is set running") {
  Judge judge;
  const auto verdict = judge.on_look(shut_down(kShutdownSuspend), false, true);
  CHECK(verdict.set_running);
  CHECK(verdict.events.empty());
}

TEST_CASE("its owner's pause is told, ours is not") {
  Judge judge;
  DomainInfo paused;
  paused.paused = true;
  CHECK(kinds(judge.on_look(paused, true, false)).empty());
  CHECK(kinds(judge.on_look(paused, false, false)) == std::vector{Kind::paused});
  CHECK(kinds(judge.on_look(paused, false, false)).empty());
  CHECK(kinds(judge.on_look(DomainInfo{}, false, false)) == std::vector{Kind::resumed});
}

TEST_CASE("another size of its memory is a reconfiguration") {
  Judge judge;
  CHECK_FALSE(judge.on_target("131072"));
  CHECK_FALSE(judge.on_target("131072"));
  const auto event = judge.on_target("65536");
  REQUIRE(event);
  CHECK(event->kind == Kind::reconfigured);
}

TEST_CASE("a device that comes or goes is a reconfiguration, by name") {
  Judge judge;
  CHECK_FALSE(judge.on_devices({"vif/0"}));
  CHECK_FALSE(judge.on_devices({"vif/0"}));
  const auto more = judge.on_devices({"vbd/51712", "vif/0"});
  REQUIRE(more);
  CHECK(more->kind == Kind::reconfigured);
  CHECK(more->detail == "its owner attached vbd/51712");
  const auto other = judge.on_devices({"vif/0", "vif/1"});
  REQUIRE(other);
  CHECK(other->detail == "its owner attached vif/1 and detached vbd/51712");
  CHECK_FALSE(judge.on_devices({"vif/0", "vif/1"}));
}

TEST_CASE("a paused domain that loses its devices may be one that is being destroyed") {
  Judge judge;
  DomainInfo info;
  CHECK(judge.on_look(info, false, false).events.empty());
  CHECK_FALSE(judge.on_devices({"vif/0"}));
  info.paused = true;
  CHECK(judge.on_look(info, false, false).events.size() == 1);
  CHECK_FALSE(judge.on_devices({}));
  info.paused = false;
  CHECK(judge.on_look(info, false, false).events.size() == 1);
  const auto gone = judge.on_devices({});
  REQUIRE(gone);
  CHECK(gone->detail == "its owner detached vif/0");
}

}  // namespace
}  // namespace libft::xen
