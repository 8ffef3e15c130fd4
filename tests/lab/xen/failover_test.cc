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
  const Status done = attempt_on_pairs(lab, "failover", XenGuest{}, survives);
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
