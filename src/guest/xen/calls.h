// SPDX-License-Identifier: LGPL-2.1-or-later
// XenCalls is everything the driver asks of Xen and of xenstore: one function a hypercall or
// request, nothing decided in it. The module libft-xen.so implements it over libxenctrl and its
// sisters; tests put a stand-in in its place in which any call can be made to fail.
// One thread at a time an object; different objects in different threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libft/status.h"
#include "libft/types.h"

namespace libft::xen {

using DomId = std::uint32_t;
using Uuid = std::array<std::uint8_t, 16>;

struct XenVersion {
  unsigned major = 0, minor = 0;
  std::string text;  // "4.17.7"
};

struct DomainInfo {
  DomId id = 0;
  bool hvm = false, hap = false, dying = false, shutdown = false;
  bool paused = false;  // By control software.
  unsigned reason = 0;  // kShutdown..., when shutdown.
  std::uint64_t total_pages = 0, max_pages = 0, shared_pages = 0, paged_pages = 0;
  std::uint64_t cpu_nanos = 0;
  std::uint32_t vcpus = 0;
  std::uint32_t emulation = 0, misc = 0;  // Of xen_arch_domainconfig.
  Uuid handle{};
};

struct NewDomain {
  Uuid handle{};
  std::uint32_t flags = 0, emulation = 0, misc = 0, vcpus = 1;
};

struct TscInfo {
  std::uint32_t mode = 0, khz = 0, incarnation = 0;
  std::uint64_t nanos = 0;
  auto operator<=>(const TscInfo&) const = default;
};

struct CpuPolicy {
  std::vector<std::uint8_t> leaves, msrs;  // Arrays of xen_cpuid_leaf_t and xen_msr_entry_t.
  bool operator==(const CpuPolicy&) const = default;
};

class XenCalls {
 public:
  virtual ~XenCalls() = default;

  // --- the host -----------------------------------------------------------------------------
  virtual Result<XenVersion> version() = 0;
  virtual Result<std::uint64_t> free_bytes() = 0;
  // All that an HVM or PVH domain of this host could be given.
  virtual Result<CpuPolicy> cpu_policy_max() = 0;

  // --- a domain's life ----------------------------------------------------------------------
  virtual Result<std::optional<DomainInfo>> domain(DomId domain) = 0;  // Empty: there is none.
  virtual Result<DomId> create(const NewDomain& config) = 0;
  virtual Status destroy(DomId domain) = 0;
  virtual Status pause(DomId domain) = 0;
  virtual Status unpause(DomId domain) = 0;
  // Suspends it without asking: each of its processors stops as soon as the device model has
  // answered what it is waiting for. Done when domain() says so.
  virtual Status suspend(DomId domain) = 0;
  // Sets a suspended domain running; its call to suspend answers "cancelled".
  virtual Status resume(DomId domain) = 0;

  // --- its shape ----------------------------------------------------------------------------
  virtual Status set_vcpus(DomId domain, std::uint32_t vcpus) = 0;
  virtual Status set_max_memory(DomId domain, std::uint64_t kib) = 0;
  virtual Result<std::uint64_t> paging_pool(DomId domain) = 0;  // Bytes.
  virtual Status set_paging_pool(DomId domain, std::uint64_t bytes) = 0;
  virtual Result<CpuPolicy> cpu_policy(DomId domain) = 0;
  virtual Status set_cpu_policy(DomId domain, const CpuPolicy& policy) = 0;
  virtual Result<std::uint64_t> pod_entries(DomId domain) = 0;
  virtual Result<std::uint32_t> new_port(DomId domain) = 0;  // Unbound, for this host's dom0.
  virtual Status seed_grants(DomId domain, std::uint64_t console, std::uint64_t store) = 0;

  // --- its memory ---------------------------------------------------------------------------
  virtual Result<std::uint64_t> page_numbers(DomId domain) = 0;  // One more than the highest.
  virtual Status populate(DomId domain, std::span<const std::uint64_t> pages, unsigned order) = 0;
  // present[i]: page `first + i` is ordinary memory of the domain. At most 1024 at a time.
  virtual Status look(DomId domain, std::uint64_t first, std::span<bool> present) = 0;
  // Maps the pages, readable and writable, over the address space reserved at `at`.
  virtual Status map(DomId domain, std::span<const std::uint64_t> pages, std::byte* at) = 0;
  virtual Status log_dirty(DomId domain) = 0;
  virtual Status log_dirty_off(DomId domain) = 0;
  // A bit a page written since the last call; valid until the next call.
  virtual Result<std::span<const std::uint64_t>> take_dirty(DomId domain, std::uint64_t pages) = 0;

  // As if the pages had been written now: they are in what take_dirty() says next.
  virtual Status mark_dirty(DomId domain, std::span<const std::uint64_t> pages) = 0;

  // Adds the pages that other domains have mapped through grants and may write: Xen logs such
  // writes only when the mapping ends.
  virtual Status lent(DomId domain, std::vector<std::uint64_t>& pages) = 0;

  // --- its processors' and platform's state -------------------------------------------------
  virtual Status context(DomId domain, std::vector<std::byte>& context) = 0;
  virtual Status set_context(DomId domain, std::span<const std::byte> context) = 0;
  virtual Result<std::uint64_t> param(DomId domain, std::uint32_t index) = 0;
  virtual Status set_param(DomId domain, std::uint32_t index, std::uint64_t value) = 0;
  virtual Result<TscInfo> tsc(DomId domain) = 0;
  virtual Status set_tsc(DomId domain, const TscInfo& tsc) = 0;

  // --- xenstore -----------------------------------------------------------------------------
  virtual Result<std::optional<std::string>> read(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& path) = 0;  // Absent: empty.
  virtual Status write(const std::string& path, const std::string& value) = 0;
  virtual Status remove(const std::string& path) = 0;  // ok when there was nothing.
  // `owner` has all rights, `reader` may read.
  virtual Status permit(const std::string& path, DomId owner, std::optional<DomId> reader) = 0;
  // Writes unless something else than `expected` stands there; says whether it did.
  virtual Result<bool> replace(const std::string& path, const std::string& expected,
                               const std::string& value) = 0;
  virtual Status introduce(DomId domain, std::uint64_t store_page, std::uint32_t port) = 0;
  virtual Status store_resumed(DomId domain) = 0;
  virtual Status watch(const std::string& path) = 0;
  virtual Status unwatch(const std::string& path) = 0;
  // Waits until a watch fires, `wake_fd` (or -1) is readable, or the time is over; swallows all
  // that has fired.
  virtual Status wait(Nanos timeout, int wake_fd) = 0;
  // How often wait() swallowed word of a change of that very path.
  virtual std::uint64_t fired(const std::string& path) const = 0;
};

// How a thread of the driver's gets calls of its own.
using OpenCalls = std::function<Result<std::unique_ptr<XenCalls>>()>;

}  // namespace libft::xen
