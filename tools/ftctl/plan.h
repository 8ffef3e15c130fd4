// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl doctor --plan`: what a protection needs on both sides, computed from the guest's size and
// from how many pages it writes, for people to read. Pure; any thread.
#pragma once

#include <string>
#include <vector>

namespace libft::ftctl {

struct PlanInput {
  std::string guest;
  double memory_mib = 0, dirty_pages_per_second = 0;
  bool dirty_rate_given = false;
  int interval_ms = 0, inflight = 0, staging_mib = 0, reference_mib = 0;
  std::string tracker;         // The one that would be used here; empty: none works.
  double scan_ms_per_gib = 0;  // Of it, measured.
};
std::string plan_text(const PlanInput& input);

// A Xen domain: of the host where it runs, or of one where it would be continued.
struct XenPlanInput {
  PlanInput of;
  bool here = false;                   // It runs on this host, and was looked at.
  std::string what = "not looked at";  // "pvh, 2 vCPU"
  std::vector<std::string> in_the_way;
  bool cooperative = true;
  double warm_mib = 0, page_tables_mib = 0, written_log_mib = 0;  // xen::Needs
  double device_model_mib = 0;  // Resident, of the one that runs; 0: it has none.
  // This host's.
  double xen_free_mib = 0, dom0_available_mib = 0;
  unsigned dom0_cpus = 1;
  // Medians of the checkpoints of a protection that is on; stopped 0: there is none.
  double handshake_ms = 0, stopped_ms = 0;
};
struct XenPlan {
  std::string text;
  bool fits = true;
};
XenPlan xen_plan(const XenPlanInput& input);

}  // namespace libft::ftctl
