// SPDX-License-Identifier: LGPL-2.1-or-later
// The promise of libft, on a real Xen: the host of a protected guest dies, and the world outside
// sees a pause.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/xen/host_death.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

Status survives(XenPair& pair) {
  FT_ASSIGN(const DeathReport report,
            kill_host_under_load(pair, {FT_FTCTL, FT_XEN_MODULE}, kPvhDeath));
  print(report);
  return {};
}

// xl has its configuration, as if it had built it here.
Status xl_knows_it(XenPair& pair) {
  FT_ASSIGN(const auto said, pair.host(Side::b).run("xl list -l guest", seconds(90)));
  for (const char* part : {"\"name\": \"guest\"", "\"type\": \"pvh\"", "\"max_memkb\": 196608",
                           "\"mac\": \"00:16:3e:77:00:10\"", "\"kernel\": \"/guest/vmlinux\""})
    if (said.find(part) == std::string::npos)
      return Status(Code::corrupt, fmt::format("xl list -l has no {}: {}", part, said));
  return {};
}

// Of each interface: how many frames the survivor has sent by it.
Status both_interfaces_work(XenPair& pair) {
  FT_ASSIGN(const auto said,
            pair.host(Side::b).run(
                "d=$(xl domid guest); for v in 0 1; do "
                "[ $(cat /sys/class/net/vif$d.$v/statistics/rx_packets) -gt 50 ] || exit 1; done",
                seconds(60)));
  return {};
}

}  // namespace

TEST_CASE("a PVH guest survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "failover", XenGuest{}, [](XenPair& pair) -> Status {
    FT_TRY(survives(pair));
    return xl_knows_it(pair);
  });
  INFO(done.to_string());
  CHECK(done.ok());
}

TEST_CASE("a PVH guest with two vCPUs and two interfaces survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const XenGuest two{.kind = GuestKind::pvh_two};
  const Status done = attempt_on_pairs(lab, "failover-two", two, [](XenPair& pair) -> Status {
    FT_TRY(survives(pair));
    return both_interfaces_work(pair);
  });
  INFO(done.to_string());
  CHECK(done.ok());
}
