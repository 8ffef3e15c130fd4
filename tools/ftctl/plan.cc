// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl doctor --plan`: what a protection needs on both sides, computed from the guest's size and
// from how many pages it writes.
#include <fmt/format.h>

#include <algorithm>

#include "commands.h"

namespace libft::ftctl {

namespace {

constexpr double kPageMib = 4096.0 / (1 << 20);
// Assumed of any host: what `ftctl bench` shows on one core of a server of 2020, where pages are
// compared, coded and checksummed at about 2 GB/s, decoded and applied at about 4 GB/s.
constexpr double kEncodeMibPerS = 2000, kApplyMibPerS = 4000;
// Device state of a small PC after delta coding.
constexpr double kStateMibPerEpoch = 0.02;

// A plan is as good as the figures that it rests on: each is named with where it comes from.
std::string origins(const PlanInput& input) {
  std::string text = "where the figures come from\n";
  if (input.tracker.empty()) {
    text += "  measured on this host: nothing, since no tracker of written pages works here\n";
  } else {
    text += fmt::format(
        "  measured on this host, just now: {:.2f} ms a GiB to find written pages ({})\n",
        input.scan_ms_per_gib, input.tracker);
  }
  text += fmt::format(
      "  given: memory, interval, inflight and the other options{}\n"
      "  assumed, not measured here: {}{:.0f} MiB/s encoded and {:.0f} MiB/s applied by a core, "
      "{:.0f} KiB of device state an epoch, half of each written page unchanged, the link's speed\n"
      "  to measure instead: `ftctl bench` (a core of this host), `ftctl status` (the real dirty "
      "rate and pauses of a protected guest)\n",
      input.dirty_rate_given ? ", the dirty rate" : "",
      input.dirty_rate_given ? "" : "the dirty rate (--dirty-rate gives yours), ", kEncodeMibPerS,
      kApplyMibPerS, kStateMibPerEpoch * 1024);
  return text;
}

}  // namespace

std::string plan_text(const PlanInput& input) {
  const double memory_mib = input.memory_mib;
  const double reference =
      input.reference_mib < 0 ? memory_mib : std::min<double>(input.reference_mib, memory_mib);
  const double epoch_mib = std::min<double>(input.staging_mib, memory_mib);
  const double staging = epoch_mib * (input.inflight + 1);
  const double dirty_mib = input.dirty_pages_per_second * kPageMib;
  const double epochs = 1000.0 / input.interval_ms;
  const double raw_mbit = (dirty_mib + epochs * kStateMibPerEpoch) * 8.388608;
  // Half of the bytes of a written page do not change, seldom fewer; most often far more.
  const double coded_mbit = (dirty_mib / 2 + epochs * kStateMibPerEpoch) * 8.388608;
  const double sync_s = memory_mib * 8.388608 / 1000;
  std::string text = fmt::format(
      "plan for {}: {:.0f} MiB, {:.0f} pages written a second ({:.1f} MiB/s), every {} ms\n\n",
      input.guest, memory_mib, input.dirty_pages_per_second, dirty_mib, input.interval_ms);
  text += fmt::format(
      "on the primary, besides the guest itself\n"
      "  memory   {:>8.0f} MiB  {:.0f} reference image for deltas + {:.0f} staging of {} epochs\n"
      "  CPU      {:>8.0f} %    of one core, to encode\n",
      reference + staging, reference, staging, input.inflight + 1,
      100 * dirty_mib / kEncodeMibPerS + 1);
  if (!input.tracker.empty()) {
    text += fmt::format("  pause    {:>8.2f} ms   of each, to find written pages ({})\n",
                        input.scan_ms_per_gib * memory_mib / 1024, input.tracker);
  }
  text += fmt::format(
      "on the backup\n"
      "  memory   {:>8.0f} MiB  {:.0f} standby guest + {:.0f} decoded epoch; the guest's size "
      "again for "
      "a moment while a state is tried\n"
      "  CPU      {:>8.0f} %    of one core, to decode and apply; after a failover, the guest's\n",
      memory_mib + epoch_mib, memory_mib, epoch_mib, 100 * dirty_mib / kApplyMibPerS + 1);
  text += fmt::format(
      "link between them\n"
      "  steady   {:>8.0f} Mbit/s at the very least, {:.0f} if no page compresses\n"
      "  first synchronisation: {:.0f} s on 1 Gbit/s, {:.1f} s on 10 Gbit/s\n"
      "  round trip: each millisecond of it is added to the guest's answers\n",
      coded_mbit, raw_mbit, sync_s, sync_s / 10);
  return text + origins(input);
}

}  // namespace libft::ftctl
