// SPDX-License-Identifier: LGPL-2.1-or-later
// docs/guest-life.md, "Xen, with xl", on a real Xen: what ends a protected guest, and what then
// becomes of it. No end promotes the backup, and xen-end-duty does what xl would have done.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/guest/protocol.h"
#include "lab/xen/protection.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Heartbeats kHeartbeats{200, 10};
constexpr Nanos kPatience = seconds(240);

Status order(XenPair& pair, std::string_view line) {
  FT_ASSIGN(const auto said, pair.host(Side::a).run(line, kPatience));
  return {};
}

// What xen-end-duty makes of it, at xl.cfg's defaults. What was saved is xl's affair.
enum class Afterwards { saved, gone, another };

struct End {
  const char *row, *order;
  int kind;  // Without an order: what its own software is told.
  const char* event;
  Afterwards afterwards;
};
// The last one needs no guest afterwards.
constexpr End kEnds[] = {
    {"xl save", "xl save guest /tmp/guest.save", 0, "guest_migrating: ", Afterwards::saved},
    {"crashed inside", nullptr, LAB_CRASH, "guest_crashed: ", Afterwards::gone},
    {"xl reboot", "xl reboot guest", 0, "guest_ended: it reboots", Afterwards::another},
};

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

Status ends(XenPair& pair, Protection& libft, const End& end) {
  FT_TRY(begin_life(pair, libft));
  FT_ASSIGN(std::string domain, pair.host(Side::a).run("xl domid guest", kPatience));
  domain.pop_back();
  if (end.order != nullptr)
    FT_TRY(order(pair, end.order));
  else
    FT_TRY(Outsiders::tell_guest(pair, end.kind));
  FT_TRY(libft.expect_end(Side::a, kFine));
  FT_TRY(libft.expect_told(Side::a, end.event));
  // Who was the backup until the end hears of it; else it waits for the guest's next life.
  FT_TRY(end.afterwards == Afterwards::saved ? libft.leave(Side::b)
                                             : libft.expect_end(Side::b, kFine));
  FT_TRY(libft.expect_untold(Side::b, "promoted: "));
  FT_TRY(libft.expect_domains(Side::b, {}));
  FT_TRY(wait_for_duty(pair, domain, end.afterwards));
  if (end.afterwards == Afterwards::another) FT_TRY(pair.wait_for_redis(kPatience));
  fmt::print("{}: the backup stood down\n", end.row);
  std::fflush(stdout);
  return {};
}

}  // namespace

TEST_CASE("what ends a protected PVH guest, and what then becomes of it") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "ends", XenGuest{}, [](XenPair& pair) -> Status {
    FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kHeartbeats));
    FT_TRY(pair.host(Side::a).push({FT_XEN_TOOLS "/xen-end-duty"}, "/usr/local/bin", kPatience));
    for (const End& end : kEnds) FT_TRY(ends(pair, *libft, end).within(end.row));
    return {};
  });
  INFO(done.to_string());
  CHECK(done.ok());
}
