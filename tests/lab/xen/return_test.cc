// SPDX-License-Identifier: LGPL-2.1-or-later
// A host that died with a protected guest comes back, with that guest's configuration in
// /etc/xen/auto: xendomains, under the start guard, starts what else is there, and the host becomes
// the backup of the one that took over.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "lab/xen/host_death.h"
#include "lab/xen/progress.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

constexpr Nanos kPatience = seconds(240), kBootTime = seconds(400);
constexpr std::uint64_t kAnswers = 40;

// "other" is nobody's but this host's. Its kernel finds no root, which is the end of it, and then
// it is to take no processor time.
constexpr const char* kOther =
    "name = \"other\"\ntype = \"pvh\"\nkernel = \"/guest/vmlinux\"\nmemory = 96\n"
    "on_crash = \"preserve\"\non_reboot = \"preserve\"\n";

Status put(XenHost& host, const std::string& file, const std::string& text) {
  auto done =
      host.run(fmt::format("f={}; mkdir -p ${{f%/*}} && cat > $f", file), seconds(60), text);
  return done ? Status{} : done.error();
}

// What an operator sets up while all is well (docs/XEN.md, "A host that comes back").
Status set_guard(XenPair& pair, const std::string& arbiter) {
  XenHost& host = pair.host(Side::a);
  FT_TRY(host.push({FT_XEN_TOOLS "/xen-auto-guard"}, "/usr/local/sbin", seconds(60)));
  FT_TRY(put(host, "/etc/libft/ftctl.json",
             fmt::format("{{\"arbiter\": \"{}\", \"guests\": {{\"guest\": {{}}}}}}", arbiter)));
  FT_TRY(put(host, "/etc/xen/auto/guest.cfg", xl_config(XenGuest{})));
  FT_TRY(put(host, "/etc/xen/auto/other.cfg", kOther));
  FT_TRY(put(host, "/etc/default/xendomains",
             "XENDOMAINS_AUTO=/run/libft/xen-auto\nXENDOMAINS_SAVE=\n"));
  FT_ASSIGN(const auto synced, host.run("sync", seconds(60)));
  return {};
}

Status dies(XenPair& pair, Protection& libft, Outsiders& outsiders) {
  pair.host(Side::a).kill();
  FT_TRY(libft.wait_for_event(Side::b, "promoted: ", kPatience));
  FT_TRY(outsiders.wait_for_answers(kAnswers, kPatience));
  FT_ASSIGN([[maybe_unused]] const Verdict verdict, outsiders.judge());
  return {};
}

// Debian's own script. What it says on a screen needs packages that are not there.
Status comes_back(XenPair& pair, Protection& libft) {
  XenHost& host = pair.host(Side::a);
  FT_TRY(host.boot());
  FT_TRY(host.wait_ready(kBootTime));
  FT_TRY(libft.favour_dom0(Side::a));
  FT_ASSIGN(const auto said,
            host.run("xen-auto-guard && bash /etc/init.d/xendomains start", kPatience));
  fmt::print("{}", said);
  FT_TRY(libft.expect_domains(Side::a, {"other"}));
  return libft.expect_domains(Side::b, {"guest"});
}

Status returns(XenPair& pair) {
  FT_ASSIGN(const auto libft, Protection::install(pair, {FT_FTCTL, FT_XEN_MODULE}, kLabHeartbeats));
  FT_ASSIGN(Outsiders outsiders, Outsiders::meet(pair));
  Progress progress;
  FT_TRY(set_guard(pair, libft->arbiter()));
  FT_TRY(libft->establish(Side::a));
  progress.passed("protected");
  outsiders.offer_load();
  FT_TRY(dies(pair, *libft, outsiders));
  progress.passed("host a died, the guest answers on host b");
  FT_TRY(comes_back(pair, *libft));
  progress.passed("host a came back, and started what is its own");
  FT_TRY(libft->stand_by(Side::a));
  FT_TRY(libft->wait_until_protected(Side::b));
  progress.passed("host a is the backup");
  return pair.wait_for_redis(kPatience);
}

}  // namespace

TEST_CASE("a host that comes back does not start its stale copy, and becomes the backup") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "return", XenGuest{}, returns);
  INFO(done.to_string());
  CHECK(done.ok());
}
