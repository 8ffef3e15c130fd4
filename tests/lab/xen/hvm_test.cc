// SPDX-License-Identifier: LGPL-2.1-or-later
// HVM domains, whose device model has a state of its own, outlive their host too.
#include <doctest/doctest.h>

#include "lab/xen/host_death.h"

using namespace libft;
using namespace libft::lab;
using std::chrono::seconds;

namespace {

// The toolstack finds the device model, and ends it with the domain.
Status ends_with_its_model(XenPair& pair) {
  FT_ASSIGN(const auto ended,
            pair.host(Side::b).run("pidof xen-qemu-system-i386 && xl destroy guest && "
                                   "while pidof xen-qemu-system-i386; do sleep 0.5; done",
                                   seconds(60)));
  return {};
}

Status survives(XenPair& pair) {
  FT_ASSIGN(const DeathReport report,
            kill_host_under_load(pair, {FT_FTCTL, FT_XEN_MODULE}, kHvmDeath));
  print(report);
  return ends_with_its_model(pair);
}

}  // namespace

TEST_CASE("an HVM guest with drivers for Xen survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "hvm", XenGuest{.kind = GuestKind::hvm}, survives);
  INFO(done.to_string());
  CHECK(done.ok());
}

TEST_CASE("an HVM guest with nothing but emulated devices survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done =
      attempt_on_pairs(lab, "hvm-bare", XenGuest{.kind = GuestKind::hvm_bare}, survives);
  INFO(done.to_string());
  CHECK(done.ok());
}
