// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/needs.h"

#include <fmt/format.h>

#include "guest/xen/facts.h"

namespace libft::xen {
namespace {

constexpr std::uint64_t kMib = 1u << 20;
// Xen's own records of a domain and of a vCPU, its grant tables, and the slack of its limit: less
// than that, but nothing says how much less.
constexpr std::uint64_t kDomainBytes = 4 * kMib, kVcpuBytes = kMib;
// The domain without memory in which an HVM guest's first state is tried.
constexpr std::uint64_t kThrowAwayBytes = 4 * kMib + kDomainBytes;
constexpr std::uint64_t kPageTableEntryBytes = 8;

std::uint64_t mib_up(std::uint64_t bytes) { return (bytes + kMib - 1) / kMib; }

}  // namespace

Needs needs_of(const Sizes& sizes) {
  Needs needs;
  needs.backup_xen = sizes.pages * kPageBytes + sizes.paging_pool_bytes + kDomainBytes +
                     sizes.vcpus * kVcpuBytes + (sizes.device_model ? kThrowAwayBytes : 0);
  needs.page_tables = sizes.pages * kPageTableEntryBytes;
  needs.written_log = sizes.pages / 8;
  return needs;
}

Status check_xen_memory(const Needs& needs, std::uint64_t free_bytes) {
  if (free_bytes >= needs.backup_xen) return {};
  return Status(Code::exhausted,
                fmt::format("the warm domain needs {} MiB of Xen's memory, and {} MiB are free on "
                            "this host: end or shrink other domains here, or dom0 (`xl mem-set "
                            "Domain-0 N`, for good by Xen's option dom0_mem)",
                            mib_up(needs.backup_xen), free_bytes / kMib));
}

Status check_dom0_memory(std::string_view what, std::uint64_t needed, std::uint64_t available) {
  if (available == 0 || available >= needed) return {};
  return Status(Code::exhausted,
                fmt::format("{} needs {} MiB in dom0, and {} MiB are available there: give dom0 "
                            "more (`xl mem-set Domain-0 N`, for good by Xen's option dom0_mem)",
                            what, mib_up(needed), available / kMib));
}

}  // namespace libft::xen
