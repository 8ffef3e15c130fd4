// SPDX-License-Identifier: LGPL-2.1-or-later
// libft beside `xl remus`, Xen's own: the same guest from the same saved host, the same load, the
// same instruments. In emulation, so that ratios count and times do not.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "demo/statistics.h"
#include "lab/xen/guest_stalls.h"
#include "lab/xen/protection.h"
#include "os/real_clock.h"
#include "os/socket.h"

using namespace libft;
using namespace libft::lab;
using demo::Json;
using demo::percentile;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};  // As in the other tests of the Xen lab.
constexpr int kWindowSeconds = 40;
constexpr Nanos kCommand = seconds(60), kPatience = seconds(240);

struct Stop {
  double handshake_ms, stopped_ms;
};

struct Figures {
  std::vector<Stop> stops;
  double stall_ms_p50 = 0, stall_ms_p99 = 0;  // Of the guest's longest, as many as it was stopped.
  double seconds = 0, bytes = 0, failover_ms = 0;

  double of(double Stop::*what, double percent) const {
    std::vector<double> values;
    for (const Stop& stop : stops) values.push_back(stop.*what);
    return percentile(values, percent);
  }
  Json json() const {
    const auto count = static_cast<double>(stops.size());
    return {{"stopped_ms_p50", of(&Stop::stopped_ms, 50)},
            {"stopped_ms_p99", of(&Stop::stopped_ms, 99)},
            {"handshake_ms_p50", of(&Stop::handshake_ms, 50)},
            {"guest_stall_ms_p50", stall_ms_p50},
            {"guest_stall_ms_p99", stall_ms_p99},
            {"checkpoints_per_s", count / seconds},
            {"bytes_per_checkpoint", bytes / count},
            {"failover_ms", failover_ms}};
  }
};

// --- instruments --------------------------------------------------------------------------------

constexpr const char* kSentBytes =
    "cat $(grep -l ^52:54:00:78 /sys/class/net/*/address | xargs dirname)/statistics/tx_bytes";

Status start_stopwatch(XenHost& host) {
  auto started = host.run(
      "setsid stopwatch $(xl domid guest) 600 > /tmp/stops 2> /tmp/stopwatch.log < /dev/null &",
      kCommand);
  return started ? Status{} : started.error();
}

// Past the first ones, which carry what the first copy left.
Status wait_for_stops(XenHost& host, int more) {
  const auto said = host.command(
      fmt::format("n=$(wc -l < /tmp/stops); until [ $(wc -l < /tmp/stops) -ge $((n + {})) ]; do "
                  "sleep 0.5; done",
                  more),
      kPatience);
  if (said && said->code == 0) return {};
  const auto log = host.command("cat /tmp/stopwatch.log /tmp/remus.log /tmp/ftctl.log", kCommand);
  return Status(Code::timeout,
                "the guest is not checkpointed: " + (log ? log->output : std::string()));
}

// The network between the hosts, and the guest as Xen has it, for a while.
Status watch_hosts(XenHost& host, Figures& figures) {
  FT_ASSIGN(const auto said,
            host.run(fmt::format("n=$(wc -l < /tmp/stops); b=$({0}); t=$(cut -d ' ' -f 1 "
                                 "/proc/uptime); sleep {1}; echo $(($({0}) - b)) $t $(cut -d ' ' "
                                 "-f 1 /proc/uptime); tail -n +$((n + 1)) /tmp/stops",
                                 kSentBytes, kWindowSeconds),
                     seconds(kWindowSeconds) + kCommand));
  std::istringstream text(said);
  double from = 0, to = 0, at = 0;
  text >> figures.bytes >> from >> to;
  figures.seconds = to - from;
  for (Stop stop{}; text >> at >> stop.handshake_ms >> stop.stopped_ms;)
    figures.stops.push_back(stop);
  return figures.stops.size() >= 10 && figures.seconds > 0
             ? Status{}
             : Status(Code::timeout, "too few checkpoints to measure: " + said);
}

// A busy emulator holds the guest up without any checkpoint, too, but seldom for as long: of all
// stalls the longest count, as many as there were stops.
Status watch(XenPair& pair, GuestStalls& stalls, Figures& figures) {
  FT_TRY(wait_for_stops(pair.host(Side::a), 4));
  FT_TRY(stalls.forget());
  FT_TRY(watch_hosts(pair.host(Side::a), figures));
  const std::size_t stops = figures.stops.size();
  FT_ASSIGN(figures.stall_ms_p50, stalls.longest((stops + 1) / 2));
  FT_ASSIGN(figures.stall_ms_p99, stalls.longest(stops / 100 + 1));
  return {};
}

bool redis_answers(XenPair& pair) {
  bool answers = false;
  pair.net().client().within([&] {
    const auto to = os::resolve({kGuestAddress, 6379}, os::ResolveFor::connecting);
    auto connection = os::connect_socket(to->front(), Millis{300});
    char reply[5] = {};
    pollfd readable{connection ? connection->get() : -1, POLLIN, 0};
    answers = connection && ::write(connection->get(), "PING\r\n", 6) == 6 &&
              ::poll(&readable, 1, 300) == 1 && ::read(connection->get(), reply, 5) == 5 &&
              std::string_view(reply, 5) == "+PONG";
  });
  return answers;
}

Status kill_host(XenPair& pair, Figures& figures) {
  const os::RealClock clock;
  const Time killed = clock.now();
  pair.host(Side::a).kill();
  while (!redis_answers(pair))
    if (clock.now() - killed > kPatience)
      return Status(Code::timeout, "the guest does not answer after its host's death");
  figures.failover_ms = std::chrono::duration<double, std::milli>(clock.now() - killed).count();
  return {};
}

// --- the two ------------------------------------------------------------------------------------

// Debian's libxl is built without network buffering (-n), and there is no disk (-d). Its receiver
// knows of a dead host by TCP's keepalive only, which is set as short as is usual.
Status start_remus(XenPair& pair) {
  FT_ASSIGN(const auto receiver,
            pair.host(Side::b).run(
                "setsid socat TCP-LISTEN:9000,reuseaddr,keepalive,keepidle=3,keepintvl=1,keepcnt=3 "
                "EXEC:'xl migrate-receive -r -e',nofork > /tmp/remus.log 2>&1 < /dev/null & "
                "sleep 1",
                kCommand));
  FT_ASSIGN(const auto sender,
            pair.host(Side::a).run(
                "setsid xl remus -Fnd -s '' guest 'socat -b 262144 - TCP:10.78.0.2:9000' > "
                "/tmp/remus.log 2>&1 < /dev/null &",
                kCommand));
  return {};
}

Status measure(XenPair& pair, Figures& figures, const std::function<Status()>& protect) {
  FT_TRY(pair.host(Side::a).push({FT_STOPWATCH}, "/usr/local/bin", kCommand));
  FT_ASSIGN(auto stalls, GuestStalls::begin(pair));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  FT_TRY(start_stopwatch(pair.host(Side::a)));
  FT_TRY(protect());
  outsiders.offer_load();
  FT_TRY(watch(pair, stalls, figures));
  return kill_host(pair, figures);
}

Status measure_remus(XenPair& pair, Figures& figures) {
  for (const Side side : {Side::a, Side::b}) {  // As Protection::install() does for libft.
    FT_ASSIGN(const auto set, pair.host(side).run("xl sched-credit -d Domain-0 -w 4096", kCommand));
  }
  return measure(pair, figures, [&] { return start_remus(pair); });
}

Status measure_libft(XenPair& pair, Figures& figures) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
  return measure(pair, figures, [&] { return libft->establish(Side::a); });
}

Result<Figures> on_a_pair(const char* name, Status (*measure)(XenPair&, Figures&)) {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  Figures figures;
  FT_TRY(attempt_on_pairs(lab, name, XenGuest{}, [&](XenPair& pair) {
    figures = {};
    return measure(pair, figures);
  }));
  return figures;
}

void print_table(const Json& both) {
  fmt::print("{:<24}{:>12}{:>12}{:>16}\n", "measured in emulation", "xl remus", "libft",
             "libft/xl remus");
  for (const auto& [key, value] : both["xl_remus"].items()) {
    const double theirs = value.get<double>(), ours = both["libft"][key].get<double>();
    fmt::print("{:<24}{:>12.1f}{:>12.1f}{:>16.2f}\n", key, theirs, ours, ours / theirs);
  }
}

}  // namespace

TEST_CASE("libft stops a guest for half as long as xl remus, and sends half as much") {
  const auto remus = on_a_pair("compare-remus", measure_remus);
  REQUIRE_MESSAGE(remus, (remus ? "" : remus.error().to_string()));
  const auto libft = on_a_pair("compare-libft", measure_libft);
  REQUIRE_MESSAGE(libft, (libft ? "" : libft.error().to_string()));
  const Json both{{"xl_remus", remus->json()}, {"libft", libft->json()}};
  print_table(both);
  std::ofstream(FT_LAB_FOLDER "/compare.json") << both.dump(2) << "\n";
  const auto ratio = [&](const char* key) {
    return both["libft"][key].get<double>() / both["xl_remus"][key].get<double>();
  };
  CHECK(ratio("stopped_ms_p50") <= 0.5);
  CHECK(ratio("bytes_per_checkpoint") <= 0.5);
  CHECK(ratio("failover_ms") <= 1);
}
