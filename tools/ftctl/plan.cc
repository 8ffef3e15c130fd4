// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace libft::ftctl {

namespace {

constexpr double kPageMib = 4096.0 / (1 << 20);
// Assumed of any host: what `ftctl bench` shows on one core of a server of 2020, where pages are
// compared, coded and checksummed at about 2 GB/s, decoded and applied at about 4 GB/s.
constexpr double kEncodeMibPerS = 2000, kApplyMibPerS = 4000;
// Device state of a small PC after delta coding.
constexpr double kStateMibPerEpoch = 0.02;

struct Memory {
  double reference, epoch, staging;  // MiB
};

Memory memory_of(const PlanInput& input) {
  Memory memory{};
  memory.reference = input.reference_mib < 0
                         ? input.memory_mib
                         : std::min<double>(input.reference_mib, input.memory_mib);
  memory.epoch = std::min<double>(input.staging_mib, input.memory_mib);
  memory.staging = memory.epoch * (input.inflight + 1);
  return memory;
}

double dirty_mib(const PlanInput& input) { return input.dirty_pages_per_second * kPageMib; }
double encode_percent(const PlanInput& input) {
  return 100 * dirty_mib(input) / kEncodeMibPerS + 1;
}
double apply_percent(const PlanInput& input) { return 100 * dirty_mib(input) / kApplyMibPerS + 1; }

std::string headline(const PlanInput& input, const std::string& what) {
  return fmt::format(
      "plan for {}: {}{:.0f} MiB, {:.0f} pages written a second ({:.1f} MiB/s), "
      "every {} ms\n\n",
      input.guest, what, input.memory_mib, input.dirty_pages_per_second, dirty_mib(input),
      input.interval_ms);
}

std::string link_text(const PlanInput& input) {
  const double epochs = 1000.0 / input.interval_ms;
  const double raw_mbit = (dirty_mib(input) + epochs * kStateMibPerEpoch) * 8.388608;
  // Half of the bytes of a written page do not change, seldom fewer; most often far more.
  const double coded_mbit = (dirty_mib(input) / 2 + epochs * kStateMibPerEpoch) * 8.388608;
  const double sync_s = input.memory_mib * 8.388608 / 1000;
  return fmt::format(
      "link between them\n"
      "  steady   {:>8.0f} Mbit/s at the very least, {:.0f} if no page compresses\n"
      "  first synchronisation: {:.0f} s on 1 Gbit/s, {:.1f} s on 10 Gbit/s\n"
      "  round trip: each millisecond of it is added to the guest's answers\n",
      coded_mbit, raw_mbit, sync_s, sync_s / 10);
}

// A plan is as good as the figures that it rests on: each is named with where it comes from.
std::string origins(const PlanInput& input, const std::string& measured, const std::string& given) {
  return fmt::format(
      "where the figures come from\n"
      "  measured on this host, just now: {}\n"
      "  given: {}interval, inflight and the other options{}\n"
      "  assumed, not measured here: {}{:.0f} MiB/s encoded and {:.0f} MiB/s applied by a core, "
      "{:.0f} KiB of device state an epoch, half of each written page unchanged, the link's speed\n"
      "  to measure instead: `ftctl bench` (a core of this host), `ftctl status` (the real dirty "
      "rate and pauses of a protected guest)\n",
      measured, given, input.dirty_rate_given ? ", the dirty rate" : "",
      input.dirty_rate_given ? "" : "the dirty rate (--dirty-rate gives yours), ", kEncodeMibPerS,
      kApplyMibPerS, kStateMibPerEpoch * 1024);
}

}  // namespace

std::string plan_text(const PlanInput& input) {
  const Memory memory = memory_of(input);
  std::string text = headline(input, "");
  text += fmt::format(
      "on the primary, besides the guest itself\n"
      "  memory   {:>8.0f} MiB  {:.0f} reference image for deltas + {:.0f} staging of {} epochs\n"
      "  CPU      {:>8.0f} %    of one core, to encode\n",
      memory.reference + memory.staging, memory.reference, memory.staging, input.inflight + 1,
      encode_percent(input));
  if (!input.tracker.empty()) {
    text += fmt::format("  pause    {:>8.2f} ms   of each, to find written pages ({})\n",
                        input.scan_ms_per_gib * input.memory_mib / 1024, input.tracker);
  }
  text += fmt::format(
      "on the backup\n"
      "  memory   {:>8.0f} MiB  {:.0f} standby guest + {:.0f} decoded epoch; the guest's size "
      "again for "
      "a moment while a state is tried\n"
      "  CPU      {:>8.0f} %    of one core, to decode and apply; after a failover, the guest's\n",
      input.memory_mib + memory.epoch, input.memory_mib, memory.epoch, apply_percent(input));
  return text + link_text(input) +
         origins(input,
                 input.tracker.empty() ? "nothing, since no tracker of written pages works here"
                                       : fmt::format("{:.2f} ms a GiB to find written pages ({})",
                                                     input.scan_ms_per_gib, input.tracker),
                 "memory, ");
}

// --- Xen ----------------------------------------------------------------------------------------

namespace {

class XenPlanner {
 public:
  explicit XenPlanner(const XenPlanInput& input) : in_(input), memory_(memory_of(input.of)) {}

  XenPlan run() {
    plan_.text = headline(in_.of, in_.what + ", ");
    primary();
    backup();
    plan_.text += link_text(in_.of);
    interval();
    plan_.text += origins(in_.of, measured(), in_.here ? "" : "memory, ");
    verdict();
    return std::move(plan_);
  }

 private:
  template <class... Values>
  void say(fmt::format_string<Values...> form, Values&&... values) {
    plan_.text += fmt::format(form, std::forward<Values>(values)...);
  }

  // Says of what this host has whether it is enough.
  void compare(bool this_host, const char* whose, double needed, double there) {
    if (!this_host) return;
    const bool fits = there >= needed;
    say("                         {} has {:.0f} MiB: {}\n", whose, there,
        fits ? "it fits" : "TOO LITTLE");
    if (!fits)
      short_of_.push_back(
          fmt::format("{} has {:.0f} MiB, {:.0f} are needed", whose, there, needed));
  }

  void primary() {
    const double least = memory_.staging + in_.page_tables_mib;
    say("on the primary{}, besides the domain itself\n"
        "  dom0     {:>8.0f} MiB  {:.0f} staging of {} epochs + {:.0f} page tables (by 4 KiB: a PV "
        "dom0 has no huge pages)\n"
        "         + {:>8.0f} MiB  reference image for deltas, at most half of what dom0 has left\n",
        in_.here ? " (this host)" : "", least, memory_.staging, in_.of.inflight + 1,
        in_.page_tables_mib, memory_.reference);
    compare(in_.here, "this dom0", least, in_.dom0_available_mib);
    say("  Xen             0 MiB  its log of written pages ({:.2f} MiB) is the domain's own\n"
        "  CPU      {:>8.0f} %    of one of dom0's, to encode; they carry the guest's frames too\n",
        in_.written_log_mib, encode_percent(in_.of));
  }

  void backup() {
    const double dom0 = memory_.epoch + in_.page_tables_mib + 2 * in_.device_model_mib;
    say("on the backup{}\n"
        "  Xen      {:>8.0f} MiB  the warm domain, reserved from the start; as much again while "
        "`ftctl test-failover` runs a copy\n",
        in_.here ? "" : " (this host)", in_.warm_mib);
    compare(!in_.here, "this Xen", in_.warm_mib, in_.xen_free_mib);
    say("  dom0     {:>8.0f} MiB  {:.0f} decoded epoch + {:.0f} page tables{}\n", dom0,
        memory_.epoch, in_.page_tables_mib,
        in_.device_model_mib > 0
            ? fmt::format(" + 2 device models of {:.0f} (as here), one until the first state was "
                          "tried",
                          in_.device_model_mib)
            : std::string());
    compare(!in_.here, "this dom0", dom0, in_.dom0_available_mib);
    say("  CPU      {:>8.0f} %    of one of dom0's, to decode and apply; after a failover, the "
        "guest's\n",
        apply_percent(in_.of));
  }

  // A guest that stands still for as long as it runs is slow, but not stuck: less makes no sense.
  void interval() {
    say("shortest sensible interval: where the domain runs as long as it stands still\n");
    if (!in_.here) return say("  its class is known on the host where it runs\n");
    const double shortest = in_.handshake_ms + 2 * in_.stopped_ms;
    if (in_.cooperative)
      say("  cooperative: asked to suspend itself before each checkpoint: its handshake + twice "
          "what it stands still\n");
    else
      say("  pause-only: nothing is asked of it: twice what it stands still\n");
    if (in_.stopped_ms > 0)
      say("  {:>8.0f} ms, by its last checkpoints here: handshake {:.1f} ms, stopped {:.1f} ms "
          "(medians)\n",
          shortest, in_.handshake_ms, in_.stopped_ms);
    else
      say("  not known before it was protected once: protect it, and ask again\n");
  }

  std::string measured() const {
    std::string text = fmt::format("free memory, {} vCPU of dom0", in_.dom0_cpus);
    if (in_.here) text += ", the domain's size and paging memory";
    if (in_.device_model_mib > 0) text += ", its device model's size";
    if (in_.stopped_ms > 0) text += ", handshake and pause";
    return text;
  }

  void verdict() {
    for (const std::string& reason : in_.in_the_way) short_of_.push_back(reason);
    plan_.fits = short_of_.empty();
    if (plan_.fits)
      return say("it fits on this host, as {}; ask the same on the other\n",
                 in_.here ? "the primary" : "the backup");
    say("it does NOT fit on this host, as {}:\n", in_.here ? "the primary" : "the backup");
    for (const std::string& reason : short_of_) say("  {}\n", reason);
    say("  remedy for memory: `xl mem-set Domain-0 N` (dom0), fewer or smaller domains (Xen), "
        "--staging-mib, --inflight\n");
  }

  const XenPlanInput& in_;
  const Memory memory_;
  XenPlan plan_;
  std::vector<std::string> short_of_;
};

}  // namespace

XenPlan xen_plan(const XenPlanInput& input) { return XenPlanner(input).run(); }

}  // namespace libft::ftctl
