// SPDX-License-Identifier: LGPL-2.1-or-later
// What an operator of xl has: ftd on both hosts and xl-ft, on a real Xen. The ftds are killed, the
// guest's host dies, and in the end all of it is taken away again.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/xen/host_death.h"
#include "lab/xen/progress.h"

using namespace libft;
using namespace libft::lab;
using demo::Json;
using std::chrono::seconds;

namespace {

constexpr Nanos kPatience = seconds(240);
constexpr std::uint64_t kAnswers = 60;

constexpr const char* kStartFtd =
    "setsid ftd --group '' >> /tmp/ftd.log 2>&1 < /dev/null & echo $! > /run/ftd.pid; "
    "until xl-ft list > /dev/null 2>&1; do sleep 0.5; done";

Result<std::string> run(XenPair& pair, Side side, std::string_view line) {
  return pair.host(side).run(line, kPatience);
}

Status order(XenPair& pair, Side side, std::string_view line) {
  const auto said = run(pair, side, line);
  return said ? Status{} : said.error().within(fmt::format("host {}", side == Side::a ? 'a' : 'b'));
}

// A line for each option, in xl.cfg's syntax.
std::string configuration(Side side, const std::string& arbiter) {
  return fmt::format(
      "arbiter = \"{}\"\nkey_file = \"/usr/local/bin/libft.key\"\nlisten = \"tcp:{}:7070\"\n"
      "heartbeat_interval = {}\nheartbeat_missed = {}\narbiter_timeout = 10000\n",
      arbiter, TwoHosts::replication_address(side), kLabHeartbeats.interval_ms,
      kLabHeartbeats.missed);
}

Status install(XenPair& pair, Side side, const std::string& arbiter) {
  FT_TRY(pair.host(side).push({FT_FTD, FT_XL_FT, FT_XLCFG}, "/usr/local/bin", kPatience));
  FT_ASSIGN(const auto written, pair.host(side).run("cat > /etc/xen/libft.conf", kPatience,
                                                    configuration(side, arbiter)));
  return order(pair, side, kStartFtd);
}

Status protect(XenPair& pair) {
  FT_TRY(order(pair, Side::a, "xl-ft protect guest " + TwoHosts::replication_address(Side::b)));
  FT_TRY(order(pair, Side::b, "xl-ft receive guest " + TwoHosts::replication_address(Side::a)));
  for (const Side side : {Side::a, Side::b})
    FT_TRY(order(pair, side, "until xl-ft status guest > /dev/null; do sleep 1; done"));
  return {};
}

// "guest 1 primary xen2 protecting 17 401.5", without the spaces.
Status expect_listed(XenPair& pair, Side side, std::string_view role, std::string_view state) {
  FT_ASSIGN(const auto listed, run(pair, side, "xl-ft list"));
  FT_ASSIGN(const auto number,
            run(pair, side, "{ xl domid guest || xl domid guest--ft; } 2> /dev/null"));
  fmt::print("{}", listed);
  const auto line = listed.find("\nguest ");
  const auto has = [&](std::string_view word) {
    return line != listed.npos && listed.find(fmt::format(" {} ", word), line) != listed.npos;
  };
  return expect(has(number.substr(0, number.find('\n'))) && has(role) && has(state),
                fmt::format("not {} {} in: {}", role, state, listed));
}

struct Served {
  std::uint64_t pid = 0, sync_pages = 0, epoch = 0;
};

Result<Served> served(XenPair& pair, Side side) {
  FT_ASSIGN(const auto said, run(pair, side, "ftctl status guest --json || [ $? = 3 ]"));
  const Json status = Json::parse(said, nullptr, false);
  if (!status.is_object() || !status.contains("keeper")) return failure(Code::corrupt, said);
  return Served{status["keeper"].value("pid", std::uint64_t{0}),
                status.value("sync_pages_sent", std::uint64_t{0}),
                status.value("epoch_captured", std::uint64_t{0})};
}

// Neither the guest nor its backup notices: the same processes, and nothing is sent again.
Status ftd_dies(XenPair& pair, Side side) {
  FT_ASSIGN(const Served before, served(pair, side));
  FT_TRY(order(pair, side, "kill -9 $(cat /run/ftd.pid)"));
  FT_TRY(order(pair, side, kStartFtd));
  FT_ASSIGN(const Served after, served(pair, side));
  FT_TRY(expect(after.pid == before.pid && after.pid != 0, "another ftctl serves the guest"));
  return expect(after.sync_pages == before.sync_pages && after.epoch >= before.epoch,
                "the guest was protected anew");
}

Status host_dies(XenPair& pair, Outsiders& outsiders) {
  pair.host(Side::a).kill();
  FT_TRY(order(pair, Side::b, "until xl domid guest > /dev/null 2>&1; do sleep 0.5; done"));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_ASSIGN([[maybe_unused]] const Verdict verdict, outsiders.judge());
  return {};
}

// The guest stays, and answers; what libft had made for it has gone.
Status take_away(XenPair& pair) {
  FT_TRY(order(pair, Side::b, "ftctl forget --all"));
  FT_TRY(pair.wait_for_redis(kPatience));
  FT_ASSIGN(const auto left,
            run(pair, Side::b,
                "ls /sys/class/net | grep ^ft; tc filter show dev $(cd /sys/class/net; echo vif*) "
                "ingress; xl list | grep -e --ft; xenstore-ls /libft-warm 2> /dev/null; pgrep -a "
                "ftctl; true"));
  return expect(left.empty(), "left behind: " + left);
}

Status lives_under_ftd(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kLabHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  const Progress progress;
  for (const Side side : {Side::a, Side::b}) FT_TRY(install(pair, side, libft->arbiter()));
  FT_TRY(protect(pair));
  FT_TRY(expect_listed(pair, Side::a, "primary", "protecting"));
  FT_TRY(expect_listed(pair, Side::b, "backup", "in_sync"));
  progress.passed("protected by xl-ft");
  outsiders.offer_load();
  for (const Side side : {Side::a, Side::b}) FT_TRY(ftd_dies(pair, side));
  progress.passed("ftd killed and started on both hosts");
  FT_TRY(host_dies(pair, outsiders));
  FT_TRY(expect_listed(pair, Side::b, "primary", "solo"));
  progress.passed("host a died, the guest answers on host b");
  FT_TRY(take_away(pair));
  progress.passed("all of libft taken away");
  return {};
}

}  // namespace

TEST_CASE("xl-ft and ftd protect a PVH guest, and let go of it") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "toolstack", XenGuest{}, lives_under_ftd);
  INFO(done.to_string());
  CHECK(done.ok());
}
