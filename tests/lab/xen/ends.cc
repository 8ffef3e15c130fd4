// SPDX-License-Identifier: LGPL-2.1-or-later
#include "lab/xen/ends.h"

#include <fmt/format.h>

#include "lab/guest/protocol.h"

namespace libft::lab {
namespace {

using std::chrono::seconds;

constexpr Nanos kPatience = seconds(240);

// xl's own way to the other host would be ssh; it takes any other command for it.
constexpr End kEnds[] = {
    {"xl save", "xl save guest /tmp/guest.save", 0, "guest_migrating: ", Afterwards::saved},
    {"xl migrate", "xl migrate -s '' guest \"socat - TCP:$peer:9000\"", 0,
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

const char* name_of(Side side) { return side == Side::a ? "xen1" : "xen2"; }

Status order(XenPair& pair, Side side, std::string_view line) {
  const auto said =
      pair.host(side).run(fmt::format("peer={}; {}", name_of(other(side)), line), kPatience);
  return said ? Status{} : said.error();
}

// It answers there, under its own name, and makes room for its next life.
Status lives_elsewhere(XenPair& pair, Protection& libft, Side there) {
  FT_TRY(pair.wait_for_redis(kPatience));
  FT_TRY(libft.expect_domains(there, {"guest"}));
  return order(pair, there, "xl destroy guest");
}

Status wait_for_duty(XenPair& pair, Side home, const std::string& domain, Afterwards afterwards) {
  const char* done = afterwards == Afterwards::another ? "xl domid guest" : "! xl domid guest";
  return order(
      pair, home,
      fmt::format("until {} > /dev/null 2>&1 && ! xl domname {}; do sleep 1; done", done, domain));
}

Status bring_about(XenPair& pair, const End& end, Side home) {
  if (end.afterwards == Afterwards::elsewhere) FT_TRY(order(pair, other(home), kReceive));
  return end.order != nullptr ? order(pair, home, end.order)
                              : Outsiders::tell_guest(pair, end.kind);
}

// Who was the backup until the end hears of it; else it waits for the guest's next life.
Status backup_stands_down(Protection& libft, const End& end, Side backup) {
  const bool xls_affair =
      end.afterwards == Afterwards::saved || end.afterwards == Afterwards::elsewhere;
  FT_TRY(xls_affair ? libft.leave(backup) : libft.expect_end(backup, kFine));
  return libft.expect_untold(backup, "promoted: ");
}

}  // namespace

std::span<const End> all_ends() { return kEnds; }

Status install_duty(XenPair& pair, Side home) {
  return pair.host(home).push({FT_XEN_TOOLS "/xen-end-duty"}, "/usr/local/bin", kPatience);
}

Status meet_end(XenPair& pair, Protection& libft, const End& end, Side home) {
  FT_ASSIGN(std::string domain, pair.host(home).run("xl domid guest", kPatience));
  domain.pop_back();
  FT_TRY(bring_about(pair, end, home));
  FT_TRY(libft.expect_end(home, kFine));
  FT_TRY(libft.expect_told(home, end.event));
  FT_TRY(backup_stands_down(libft, end, other(home)));
  FT_TRY(end.afterwards == Afterwards::elsewhere ? lives_elsewhere(pair, libft, other(home))
                                                 : libft.expect_domains(other(home), {}));
  FT_TRY(wait_for_duty(pair, home, domain, end.afterwards));
  return end.afterwards == Afterwards::another ? pair.wait_for_redis(kPatience) : Status{};
}

}  // namespace libft::lab
