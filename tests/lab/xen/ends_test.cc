// SPDX-License-Identifier: LGPL-2.1-or-later
// docs/guest-life.md, "Xen, with xl", on a real Xen: what ends a protected guest, and what then
// becomes of it. No end promotes the backup, and xen-end-duty does what xl would have done.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/guest/protocol.h"
#include "lab/xen/progress.h"
#include "lab/xen/protection.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};
constexpr Nanos kPatience = seconds(240);

Status order(XenPair& pair, std::string_view line, Side side = Side::a) {
  FT_ASSIGN(const auto said, pair.host(side).run(line, kPatience));
  return {};
}

// What xen-end-duty makes of it, at xl.cfg's defaults. What was saved or moved is xl's affair.
enum class Afterwards { saved, elsewhere, gone, another };

struct End {
  const char *row, *order;
  int kind;  // Without an order: what its own software is told.
  const char* event;
  Afterwards afterwards;
};
// The last one needs no guest afterwards. xl's own way to the other host would be ssh; it takes any
// other command for it.
constexpr End kEnds[] = {
    {"xl save", "xl save guest /tmp/guest.save", 0, "guest_migrating: ", Afterwards::saved},
    {"xl migrate", "xl migrate -s '' guest 'socat - TCP:xen2:9000'", 0,
     "guest_migrating: ", Afterwards::elsewhere},
    {"rebooted inside", nullptr, LAB_REBOOT, "guest_ended: it reboots", Afterwards::another},
    {"xl shutdown", "xl shutdown guest", 0, "guest_ended: it was shut down", Afterwards::gone},
    {"xl destroy", "xl destroy guest", 0, "guest_ended: ", Afterwards::gone},
    {"crashed inside", nullptr, LAB_CRASH, "guest_crashed: ", Afterwards::gone},
    {"xl reboot", "xl reboot guest", 0, "guest_ended: it reboots", Afterwards::another},
};

constexpr const char* kReceive =
    "setsid socat TCP-LISTEN:9000,reuseaddr EXEC:'xl migrate-receive' > /tmp/receive 2>&1 "
    "< /dev/null &";

// It answers there, under its own name, and makes room for its next life.
Status lives_elsewhere(XenPair& pair, Protection& libft) {
  FT_TRY(pair.wait_for_redis(kPatience));
  FT_TRY(libft.expect_domains(Side::b, {"guest"}));
  return order(pair, "xl destroy guest", Side::b);
}

// A guest as it was when it was saved.
Status begin_life(XenPair& pair, Protection& libft) {
  FT_ASSIGN(const auto there, libft.domains(Side::a));
  if (there.empty()) FT_TRY(order(pair, "xl restore /tmp/guest.save"));
  FT_TRY(pair.wait_for_redis(kPatience));
  return libft.establish(Side::a);
}

Status wait_for_duty(XenPair& pair, const std::string& domain, Afterwards afterwards) {
  const char* done = afterwards == Afterwards::another ? "xl domid guest" : "! xl domid guest";
  return order(pair, fmt::format("until {} > /dev/null 2>&1 && ! xl domname {}; do sleep 1; done",
                                 done, domain));
}

Status ends(XenPair& pair, Protection& libft, const End& end, const Progress& progress) {
  FT_TRY(begin_life(pair, libft));
  FT_ASSIGN(std::string domain, pair.host(Side::a).run("xl domid guest", kPatience));
  domain.pop_back();
  const bool xls_affair =
      end.afterwards == Afterwards::saved || end.afterwards == Afterwards::elsewhere;
  if (end.afterwards == Afterwards::elsewhere) FT_TRY(order(pair, kReceive, Side::b));
  if (end.order != nullptr)
    FT_TRY(order(pair, end.order));
  else
    FT_TRY(Outsiders::tell_guest(pair, end.kind));
  FT_TRY(libft.expect_end(Side::a, kFine));
  FT_TRY(libft.expect_told(Side::a, end.event));
  // Who was the backup until the end hears of it; else it waits for the guest's next life.
  FT_TRY(xls_affair ? libft.leave(Side::b) : libft.expect_end(Side::b, kFine));
  FT_TRY(libft.expect_untold(Side::b, "promoted: "));
  FT_TRY(end.afterwards == Afterwards::elsewhere ? lives_elsewhere(pair, libft)
                                                 : libft.expect_domains(Side::b, {}));
  FT_TRY(wait_for_duty(pair, domain, end.afterwards));
  if (end.afterwards == Afterwards::another) FT_TRY(pair.wait_for_redis(kPatience));
  progress.passed(end.row);
  return {};
}

}  // namespace

TEST_CASE("what ends a protected PVH guest, and what then becomes of it") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "ends", XenGuest{}, [](XenPair& pair) -> Status {
    FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
    FT_TRY(pair.host(Side::a).push({FT_XEN_TOOLS "/xen-end-duty"}, "/usr/local/bin", kPatience));
    const Progress progress;
    for (const End& end : kEnds) FT_TRY(ends(pair, *libft, end, progress).within(end.row));
    return {};
  });
  INFO(done.to_string());
  CHECK(done.ok());
}
