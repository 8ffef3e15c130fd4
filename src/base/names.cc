// SPDX-License-Identifier: LGPL-2.1-or-later
// Names of enumerators and small sums that public headers declare.
#include "libft/guest.h"
#include "libft/log.h"

namespace libft {

std::string_view to_string(GuestEvent::Kind kind) {
  switch (kind) {
    case GuestEvent::Kind::ended: return "ended";
    case GuestEvent::Kind::crashed: return "crashed";
    case GuestEvent::Kind::rebooted: return "rebooted";
    case GuestEvent::Kind::paused: return "paused";
    case GuestEvent::Kind::resumed: return "resumed";
    case GuestEvent::Kind::process_died: return "process_died";
    case GuestEvent::Kind::reconfigured: return "reconfigured";
    case GuestEvent::Kind::migrating: return "migrating";
  }
  return "unknown";
}

std::string_view to_string(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
  }
  return "error";
}

std::uint64_t GuestInfo::pages() const {
  std::uint64_t sum = 0;
  for (const auto& region : memory) sum += region.bytes.size() / page_bytes;
  return sum;
}

std::string Guest::about(PageNo page) const {
  for (const auto& region : info().memory) {
    const std::uint64_t pages = region.bytes.size() / info().page_bytes;
    if (page >= region.first && page.value - region.first.value < pages) return region.name;
  }
  return "no memory";
}

}  // namespace libft
