// SPDX-License-Identifier: LGPL-2.1-or-later
// Needs is what the protection of a domain takes on both hosts besides the domain itself, computed
// from what Xen says of it: what a plan shows, and what a host that has less is refused by.
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "libft/status.h"

namespace libft::xen {

struct Sizes {
  std::uint64_t pages = 0, paging_pool_bytes = 0;
  std::uint32_t vcpus = 1;
  bool device_model = false;
};

struct Needs {
  std::uint64_t backup_xen = 0;   // Of Xen's free memory, for the warm domain.
  std::uint64_t page_tables = 0;  // In either dom0, to map the domain by pages of 4 KiB.
  std::uint64_t written_log = 0;  // Xen's, of the primary: out of the domain's own paging memory.
};

Needs needs_of(const Sizes& sizes);

// Code::exhausted with both figures and the remedy, when Xen has less free.
Status check_xen_memory(const Needs& needs, std::uint64_t free_bytes);

// The same of dom0's, where `what` is what it is needed for. `available` 0: not known.
Status check_dom0_memory(std::string_view what, std::uint64_t needed, std::uint64_t available);

}  // namespace libft::xen
