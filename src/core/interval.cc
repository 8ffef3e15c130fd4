// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/interval.h"

#include <algorithm>

namespace libft::core {
namespace {

// The shortest run after a pause of that length which keeps the guest running for its share.
Nanos shortest_run(const IntervalOptions& options, Nanos stopped) {
  const auto percent = std::clamp(options.run_percent_min, 1u, 99u);
  const Nanos share = stopped * percent / (100 - percent);
  return std::max(options.floor, std::min(share, options.idle));
}

Nanos until_pages_wanted(const IntervalOptions& options, const LastCheckpoint& last) {
  if (last.pages == 0 || last.ran <= Nanos{0}) return options.idle;
  const double rate = static_cast<double>(last.pages) / static_cast<double>(last.ran.count());
  const double nanos = static_cast<double>(options.pages_wanted) / rate;
  return nanos >= static_cast<double>(options.idle.count())
             ? options.idle
             : Nanos{static_cast<std::int64_t>(nanos)};
}

}  // namespace

Time next_checkpoint(const IntervalOptions& options, const LastCheckpoint& last,
                     bool output_waiting) {
  if (options.kind == IntervalOptions::Kind::fixed) return last.resumed_at + options.interval;
  const Nanos floor = shortest_run(options, last.stopped);
  if (output_waiting) return last.resumed_at + floor;
  const Nanos shortest = std::max(options.interval, floor);
  const Nanos wanted = std::max(until_pages_wanted(options, last), shortest);
  return last.resumed_at + std::min(wanted, std::max(options.idle, shortest));
}

}  // namespace libft::core
