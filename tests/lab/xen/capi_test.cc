// SPDX-License-Identifier: LGPL-2.1-or-later
// A toolstack in C protects a Xen guest through libft.so alone, and the guest survives the death of
// its host as with ftctl.
#include <doctest/doctest.h>

#include "lab/xen/host_death.h"

using namespace libft;
using namespace libft::lab;

namespace {

Status survives(XenPair& pair) {
  DeathPlan plan = kPvhDeath;
  plan.verify = false;  // ft-pair knows no such order.
  FT_ASSIGN(const DeathReport report,
            kill_host_under_load(pair, {FT_FTCTL, FT_XEN_MODULE, FT_PAIR, FT_LIBRARY}, plan));
  print(report);
  return {};
}

}  // namespace

TEST_CASE("a PVH guest that a C program protects survives the death of its host") {
  const XenLab lab = XenLab::find_or_skip(FT_LAB_FOLDER);
  const Status done = attempt_on_pairs(lab, "capi", XenGuest{}, survives);
  INFO(done.to_string());
  CHECK(done.ok());
}
