// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/suspicion.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sstream>

using namespace libft;
using core::Suspicion;
using core::Watched;

namespace {

constexpr Time at(std::int64_t ms) { return Time{Millis{ms}}; }

std::string name(DetectorEvent::Kind kind) {
  switch (kind) {
    case DetectorEvent::Kind::alive: return "alive";
    case DetectorEvent::Kind::suspected: return "suspected";
    case DetectorEvent::Kind::path_down: return "down";
    case DetectorEvent::Kind::path_up: return "up";
  }
  return "?";
}

void add(std::string& told, const std::vector<DetectorEvent>& events) {
  for (const auto& event : events)
    told += fmt::format("{}{}@{}", told.empty() ? "" : " ", name(event.kind),
                        event.at.since_start / Millis{1});
}

// A story is a line of steps; MS is a moment:
//   h0:MS:COUNT  heartbeat on path 0 at MS, the peer's session having counted to COUNT
//   c:MS         the timer ran, in time      l:PLANNED:MS  the timer ran late
// The interval is 50 ms and three may be missed: a primary's silence of 175 ms is suspicious; a
// session may stand still for 1000 ms.
std::string tell(std::size_t paths, const std::string& story) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < paths; ++i) names.push_back(fmt::format("path {}", i));
  DetectorOptions options;
  options.stuck_after = Millis{1000};
  Suspicion suspicion(options, names, Watched::primary);
  suspicion.start(at(0));
  std::string told, step;
  for (std::istringstream steps(story); steps >> step;) {
    unsigned long path = 0, progress = 0;
    long planned = 0, ms = 0;
    if (std::sscanf(step.c_str(), "h%lu:%ld:%lu", &path, &ms, &progress) == 3) {
      add(told, suspicion.heard(path, at(ms), progress));
    } else if (std::sscanf(step.c_str(), "c:%ld", &ms) == 1) {
      add(told, suspicion.check(at(ms)));
    } else if (std::sscanf(step.c_str(), "l:%ld:%ld", &planned, &ms) == 2) {
      suspicion.slept_over(at(planned), at(ms));
    } else {
      FAIL("not a step: " << step);
    }
  }
  return told;
}

}  // namespace

TEST_CASE("suspicion, one path") {
  const struct {
    const char *why, *story, *told;
  } table[] = {
      {"before the first heartbeat there is a second of grace", "c:999 c:1174", ""},
      {"a peer that is never heard is suspected", "c:1175 c:1300", "suspected@1175"},
      {"the first heartbeat is told, the others are not", "h0:10:1 h0:60:2", "alive@10"},
      {"silence counts from the last heartbeat", "h0:10:1 h0:60:2 c:234 c:235",
       "alive@10 suspected@235"},
      {"a heartbeat in time moves the limit", "h0:10:1 h0:180:2 c:200 c:354", "alive@10"},
      {"suspected once, at the moment of the limit", "h0:10:1 c:240 c:500",
       "alive@10 suspected@185"},
      {"a peer that comes back is told", "h0:10:1 c:185 h0:400:2 c:410 c:575",
       "alive@10 suspected@185 alive@400 suspected@575"},
      {"our own absence is not the peer's silence", "h0:10:1 l:60:400 c:400", "alive@10"},
      {"silence before and after our absence adds up", "h0:10:1 l:60:400 c:524 c:525",
       "alive@10 suspected@525"},
      {"many small absences add up, too", "h0:10:1 l:60:90 l:140:170 c:244 c:245",
       "alive@10 suspected@245"},
      {"an absence moves no heartbeat into the future", "h0:390:1 l:60:400 c:574 c:575",
       "alive@390 suspected@575"},
      {"an absence during the grace lengthens it", "l:100:900 c:1300 c:1974 c:1975",
       "suspected@1975"},
      {"being early or in time changes nothing", "h0:10:1 l:60:60 l:90:80 c:185",
       "alive@10 suspected@185"},
      {"an absence after the suspicion does not undo it", "h0:10:1 c:185 l:235:900 c:900",
       "alive@10 suspected@185"},
      {"a path that does not exist is ignored", "h3:10:1", ""},
  };
  for (const auto& row : table) {
    CAPTURE(row.why);
    CHECK(tell(1, row.story) == row.told);
  }
}

TEST_CASE("suspicion, two paths") {
  const struct {
    const char *why, *story, *told;
  } table[] = {
      {"each path comes up by itself", "h0:10:1 h1:20:1", "alive@10 up@10 up@20"},
      {"one silent path is no suspicion", "h0:10:1 h1:10:1 h0:150:2 c:190",
       "alive@10 up@10 up@10 down@185"},
      {"both silent: the later one counts", "h0:10:1 h1:10:1 h0:150:2 c:190 c:324 c:325",
       "alive@10 up@10 up@10 down@185 down@325 suspected@325"},
      {"one path that comes back is enough", "h0:10:1 h1:10:1 c:185 h1:300:2 c:310",
       "alive@10 up@10 up@10 down@185 down@185 suspected@185 alive@300 up@300"},
      {"a path that never worked is told after the grace", "h0:10:1 h0:1100:2 c:1175",
       "alive@10 up@10 down@1175"},
      {"a path comes back without a suspicion", "h0:10:1 h1:10:1 h0:150:2 c:190 h1:200:3",
       "alive@10 up@10 up@10 down@185 up@200"},
  };
  for (const auto& row : table) {
    CAPTURE(row.why);
    CHECK(tell(2, row.story) == row.told);
  }
}

TEST_CASE("suspicion, a peer whose session stands still") {
  std::string beats;
  for (int ms = 10; ms <= 1200; ms += 50) beats += fmt::format("h0:{}:7 ", ms);
  CHECK(tell(1, beats) == "alive@10 suspected@1010");
  CHECK(tell(1, beats + "h0:1250:7 h0:1300:8") == "alive@10 suspected@1010 alive@1300");
  // An absence of 300 ms in the middle: the count is owed so much more time.
  CHECK(tell(1, "h0:10:7 l:100:400 h0:400:7 h0:800:7 h0:1200:7 h0:1309:7 h0:1310:7") ==
        "alive@10 suspected@1310");
  // Silent and stuck is one suspicion, and only work ends it.
  CHECK(tell(1, beats + "c:1335 h0:1400:7 h0:1450:9") == "alive@10 suspected@1010 alive@1450");
}

TEST_CASE("a path that is found out later is watched from then on") {
  Suspicion suspicion(DetectorOptions{}, {"a"}, Watched::primary);
  suspicion.start(at(0));
  std::string told;
  add(told, suspicion.heard(0, at(5000), 1));
  suspicion.add_path("b", at(5000));
  add(told, suspicion.heard(0, at(6100), 1));
  add(told, suspicion.check(at(6174)));
  CHECK(told == "alive@5000");
  add(told, suspicion.check(at(6175)));
  CHECK(told == "alive@5000 down@6175");
}

TEST_CASE("a primary suspects half an interval before its backup, which says so") {
  Suspicion on_primary(DetectorOptions{}, {"a"}, Watched::backup);
  Suspicion on_backup(DetectorOptions{}, {"a"}, Watched::primary);
  for (Suspicion* one : {&on_primary, &on_backup}) {
    one->start(at(0));
    CHECK(one->heard(0, at(10), 1).size() == 1);
    CHECK(one->check(at(159)).empty());
  }
  const auto early = on_primary.check(at(160));
  REQUIRE(early.size() == 1);
  CHECK(early[0].head_start == Nanos{0});
  CHECK(on_backup.check(at(184)).empty());
  const auto late = on_backup.check(at(185));
  REQUIRE(late.size() == 1);
  CHECK(late[0].head_start == Millis{25});
}

TEST_CASE("the next check is when the first path can become silent") {
  Suspicion suspicion(DetectorOptions{}, {"a", "b"}, Watched::primary);
  suspicion.start(at(0));
  CHECK(suspicion.next_check() == at(1175));
  suspicion.heard(0, at(10), 1);
  CHECK(suspicion.next_check() == at(185));
  suspicion.check(at(185));
  CHECK(suspicion.next_check() == at(1175));
  suspicion.check(at(1175));
  CHECK(suspicion.suspected());
  CHECK(suspicion.next_check() > at(1'000'000'000));
}
