// SPDX-License-Identifier: LGPL-2.1-or-later
// What `ftctl doctor --plan` says of a Xen domain.
#include <doctest/doctest.h>

#include "ftctl/plan.h"

using namespace libft::ftctl;

namespace {

XenPlanInput domain_here() {
  XenPlanInput input;
  input.of = {.guest = "xen:web", .memory_mib = 2048, .dirty_pages_per_second = 5000};
  input.of.interval_ms = 25;
  input.of.inflight = 2;
  input.of.staging_mib = 64;
  input.of.reference_mib = -1;
  input.here = true;
  input.what = "pvh, 2 vCPU";
  input.warm_mib = 2070;
  input.page_tables_mib = 4;
  input.written_log_mib = 0.0625;
  input.dom0_available_mib = 512;
  return input;
}

bool says(const XenPlan& plan, const std::string& part) {
  const bool there = plan.text.find(part) != std::string::npos;
  if (!there) MESSAGE(part << " is not in:\n" << plan.text);
  return there;
}

}  // namespace

TEST_CASE("the plan of a domain that runs here compares the primary's side with this host") {
  const XenPlan plan = xen_plan(domain_here());
  CHECK(plan.fits);
  CHECK(says(plan, "xen:web: pvh, 2 vCPU, 2048 MiB"));
  CHECK(says(plan, "196 MiB  192 staging of 3 epochs + 4 page tables"));
  CHECK(says(plan, "this dom0 has 512 MiB: it fits"));
  CHECK(says(plan, "2070 MiB  the warm domain"));
  CHECK(says(plan, "not known before it was protected once"));
  CHECK(says(plan, "assumed, not measured here: the dirty rate"));
  CHECK(says(plan, "it fits on this host, as the primary"));
}

TEST_CASE("a dom0 that is too small, and a domain that cannot be protected, do not fit") {
  XenPlanInput input = domain_here();
  input.dom0_available_mib = 100;
  input.in_the_way = {"it has a virtual TPM"};
  const XenPlan plan = xen_plan(input);
  CHECK_FALSE(plan.fits);
  CHECK(says(plan, "this dom0 has 100 MiB: TOO LITTLE"));
  CHECK(says(plan, "does NOT fit on this host, as the primary"));
  CHECK(says(plan, "this dom0 has 100 MiB, 196 are needed"));
  CHECK(says(plan, "it has a virtual TPM"));
}

TEST_CASE("where the domain does not run, the backup's side is compared") {
  XenPlanInput input = domain_here();
  input.here = false;
  input.xen_free_mib = 2000;
  const XenPlan plan = xen_plan(input);
  CHECK_FALSE(plan.fits);
  CHECK(says(plan, "on the backup (this host)"));
  CHECK(says(plan, "this Xen has 2000 MiB, 2070 are needed"));
  input.xen_free_mib = 4000;
  CHECK(says(xen_plan(input), "it fits on this host, as the backup"));
}

TEST_CASE("the shortest sensible interval is that of the domain's class, by its own checkpoints") {
  XenPlanInput input = domain_here();
  input.handshake_ms = 73;
  input.stopped_ms = 47;
  CHECK(says(xen_plan(input), "167 ms, by its last checkpoints here: handshake 73.0 ms"));
  CHECK(says(xen_plan(input), "cooperative: asked to suspend itself"));
  input.cooperative = false;
  input.handshake_ms = 0;
  CHECK(says(xen_plan(input), "94 ms, by its last checkpoints"));
  CHECK(says(xen_plan(input), "pause-only"));
}
