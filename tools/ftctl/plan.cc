// SPDX-License-Identifier: LGPL-2.1-or-later
// `ftctl doctor --plan`: what a protection needs on both sides, computed from the guest's size and
// from how many pages it writes.
#include <fmt/format.h>

#include <algorithm>

#include "commands.h"

namespace libft::ftctl {

namespace {

constexpr double kPageMib = 4096.0 / (1 << 20);
// `ftctl bench` on one core of a server of 2020: pages are compared, coded and checksummed at about
// 2 GB/s, decoded and applied at about 4 GB/s.
constexpr double kEncodeMibPerS = 2000, kApplyMibPerS = 4000;
// Device state of a small PC after delta coding.
constexpr double kStateMibPerEpoch = 0.02;

}  // namespace

std::string plan_text(const std::string& guest, double memory_mib, double dirty_pages_per_second,
                      int interval_ms, int inflight, int staging_mib, int reference_mib) {
  const double reference =
      reference_mib < 0 ? memory_mib : std::min<double>(reference_mib, memory_mib);
  const double staging = std::min<double>(staging_mib, memory_mib) * (inflight + 1);
  const double dirty_mib = dirty_pages_per_second * kPageMib;
  const double epochs = 1000.0 / interval_ms;
  const double raw_mbit = (dirty_mib + epochs * kStateMibPerEpoch) * 8.388608;
  // Half of the bytes of a written page do not change, seldom fewer; most often far more.
  const double coded_mbit = (dirty_mib / 2 + epochs * kStateMibPerEpoch) * 8.388608;
  const double sync_s = memory_mib * 8.388608 / 1000;
  std::string text = fmt::format(
      "plan for {}: {:.0f} MiB, {:.0f} pages written a second ({:.1f} MiB/s), every {} ms\n\n",
      guest, memory_mib, dirty_pages_per_second, dirty_mib, interval_ms);
  text += fmt::format(
      "on the primary, besides the guest itself\n"
      "  memory   {:>8.0f} MiB  {:.0f} reference image for deltas + {:.0f} staging of {} epochs\n"
      "  CPU      {:>8.0f} %    of one core, to encode\n",
      reference + staging, reference, staging, inflight + 1, 100 * dirty_mib / kEncodeMibPerS + 1);
  text += fmt::format(
      "on the backup\n"
      "  memory   {:>8.0f} MiB  {:.0f} standby guest + {:.0f} decoded epoch; the guest's size "
      "again for "
      "a moment while a state is tried\n"
      "  CPU      {:>8.0f} %    of one core, to decode and apply; after a failover, the guest's\n",
      memory_mib + std::min<double>(staging_mib, memory_mib), memory_mib,
      std::min<double>(staging_mib, memory_mib), 100 * dirty_mib / kApplyMibPerS + 1);
  text += fmt::format(
      "link between them\n"
      "  steady   {:>8.0f} Mbit/s at the very least, {:.0f} if no page compresses\n"
      "  first synchronisation: {:.0f} s on 1 Gbit/s, {:.1f} s on 10 Gbit/s\n"
      "  round trip: each millisecond of it is added to the guest's answers\n",
      coded_mbit, raw_mbit, sync_s, sync_s / 10);
  text +=
      "figures: measured with `ftctl bench`; the dirty rate is the one given by --dirty-rate, "
      "and `ftctl status` shows the real one\n";
  return text;
}

}  // namespace libft::ftctl
