// SPDX-License-Identifier: LGPL-2.1-or-later
// XenCalls over the libraries of one minor of Xen: the whole of libft-xen.so. Each function is one
// call and the translation of its failure; what to call, and when, is the driver's.
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "guest/xen/facts.h"
#include "guest/xen/module.h"
#include "os/poll.h"

// In this order: params.h uses what xenctrl.h defines.
// clang-format off
extern "C" {
#include <xenctrl.h>
#include <xendevicemodel.h>
#include <xenforeignmemory.h>
#include <xenguest.h>
#include <xenstore.h>
#include <xentoollog.h>
#include <xen/hvm/dm_op.h>
#include <xen/hvm/params.h>
// clang-format on
// libxenctrl exports it for libxenguest without declaring it publicly; the same from 4.17 to 4.20.
int xc_get_pfn_type_batch(xc_interface* xch, uint32_t dom, unsigned int num, xen_pfn_t* pages);
}

namespace libft::xen {
namespace {

static_assert(kShutdownPoweroff == SHUTDOWN_poweroff && kShutdownReboot == SHUTDOWN_reboot &&
              kShutdownSuspend == SHUTDOWN_suspend && kShutdownCrash == SHUTDOWN_crash &&
              kShutdownWatchdog == SHUTDOWN_watchdog && kShutdownSoftReset == SHUTDOWN_soft_reset);
static_assert(kCreateHvm == XEN_DOMCTL_CDF_hvm && kCreateHap == XEN_DOMCTL_CDF_hap &&
              kEmulateLapic == XEN_X86_EMU_LAPIC && kPageBytes == XC_PAGE_SIZE);
static_assert(kParamCallbackIrq == HVM_PARAM_CALLBACK_IRQ && kParamStorePfn == HVM_PARAM_STORE_PFN);
static_assert(kParamStorePort == HVM_PARAM_STORE_EVTCHN && kParamIoreqPfn == HVM_PARAM_IOREQ_PFN);
static_assert(kParamBufioreqPfn == HVM_PARAM_BUFIOREQ_PFN && kParamViridian == HVM_PARAM_VIRIDIAN);
static_assert(kParamIdentPt == HVM_PARAM_IDENT_PT && kParamAcpiSState == HVM_PARAM_ACPI_S_STATE);
static_assert(kParamConsolePfn == HVM_PARAM_CONSOLE_PFN &&
              kParamConsolePort == HVM_PARAM_CONSOLE_EVTCHN &&
              kParamAcpiIoports == HVM_PARAM_ACPI_IOPORTS_LOCATION);
static_assert(kParamPagingRing == HVM_PARAM_PAGING_RING_PFN &&
              kParamMonitorRing == HVM_PARAM_MONITOR_RING_PFN &&
              kParamSharingRing == HVM_PARAM_SHARING_RING_PFN);
static_assert(kParamIoreqServerPfn == HVM_PARAM_IOREQ_SERVER_PFN &&
              kParamIoreqServerPages == HVM_PARAM_NR_IOREQ_SERVER_PAGES &&
              kParamGenerationId == HVM_PARAM_VM_GENERATION_ID_ADDR);
static_assert(kParamAltp2m == HVM_PARAM_ALTP2M && kParamX87FipWidth == HVM_PARAM_X87_FIP_WIDTH &&
              kParamVm86TssSized == HVM_PARAM_VM86_TSS_SIZED && kParamMcaCap == HVM_PARAM_MCA_CAP);
static_assert(kParamTimerMode == HVM_PARAM_TIMER_MODE && kParamHpet == HVM_PARAM_HPET_ENABLED &&
              kParamVptAlign == HVM_PARAM_VPT_ALIGN &&
              kParamTripleFault == HVM_PARAM_TRIPLE_FAULT_REASON);

// xentoollog wants somewhere to write; libft's answer is the Status.
struct SilentLogger {
  xentoollog_logger calls;
};
void say_nothing(xentoollog_logger*, xentoollog_level, int, const char*, const char*, va_list) {}
void show_nothing(xentoollog_logger*, const char*, const char*, int, unsigned long, unsigned long) {
}
void destroy_nothing(xentoollog_logger*) {}

// Buffers that hypercalls read and write; page-aligned and locked by the library.
class Bitmap {
 public:
  explicit Bitmap(xc_interface* xc) : xc_(xc) {}
  ~Bitmap() { free(); }
  Bitmap(const Bitmap&) = delete;
  Bitmap& operator=(const Bitmap&) = delete;

  bool reserve(std::uint64_t bits) {
    const std::uint64_t pages = (bits + 8 * kPageBytes - 1) / (8 * kPageBytes);
    if (pages <= pages_) return true;
    free();
    words_ = static_cast<std::uint64_t*>(
        xc__hypercall_buffer_alloc_pages(xc_, &buffer_, static_cast<int>(pages)));
    if (words_ != nullptr) pages_ = pages;
    return words_ != nullptr;
  }
  xc_hypercall_buffer_t* buffer() { return &buffer_; }
  std::span<const std::uint64_t> words(std::uint64_t bits) const {
    return {words_, (bits + 63) / 64};
  }

 private:
  void free() {
    if (words_ != nullptr) xc__hypercall_buffer_free_pages(xc_, &buffer_, static_cast<int>(pages_));
    words_ = nullptr;
    pages_ = 0;
  }
  xc_interface* xc_;
  xc_hypercall_buffer_t buffer_{};
  std::uint64_t* words_ = nullptr;
  std::uint64_t pages_ = 0;
};

Status failed(std::string_view doing) { return os::errno_status(doing); }
Status answer(int result, std::string_view doing) { return result < 0 ? failed(doing) : Status(); }

constexpr std::size_t kPathsCounted = 64;

class Library final : public XenCalls {
 public:
  ~Library() override {
    bitmap_.reset();
    unmap_grants();
    if (xs_ != nullptr) xs_close(xs_);
    if (model_ != nullptr) xendevicemodel_close(model_);
    if (memory_ != nullptr) xenforeignmemory_close(memory_);
    if (xc_ != nullptr) xc_interface_close(xc_);
  }
  Status open();

  Result<XenVersion> version() override;
  Result<std::uint64_t> free_bytes() override;
  Result<CpuPolicy> cpu_policy_max() override;
  Result<std::optional<DomainInfo>> domain(DomId domain) override;
  Result<DomId> create(const NewDomain& config) override;
  Status destroy(DomId domain) override {
    return answer(xc_domain_destroy(xc_, domain), "destroy the domain");
  }
  Status pause(DomId domain) override {
    return answer(xc_domain_pause(xc_, domain), "pause the domain");
  }
  Status unpause(DomId domain) override {
    return answer(xc_domain_unpause(xc_, domain), "unpause the domain");
  }
  Status suspend(DomId domain) override {
    return answer(xc_domain_shutdown(xc_, domain, SHUTDOWN_suspend), "suspend the domain");
  }
  Status resume(DomId domain) override;
  Status set_vcpus(DomId domain, std::uint32_t vcpus) override {
    return answer(xc_domain_max_vcpus(xc_, domain, vcpus), "give the domain its vCPUs");
  }
  Status set_max_memory(DomId domain, std::uint64_t kib) override {
    return answer(xc_domain_setmaxmem(xc_, domain, kib), "set the domain's memory limit");
  }
  Result<std::uint64_t> paging_pool(DomId domain) override;
  Status set_paging_pool(DomId domain, std::uint64_t bytes) override {
    return answer(xc_set_paging_mempool_size(xc_, domain, bytes), "reserve paging memory");
  }
  Result<CpuPolicy> cpu_policy(DomId domain) override;
  Status set_cpu_policy(DomId domain, const CpuPolicy& policy) override;
  Result<std::uint64_t> pod_entries(DomId domain) override;
  Result<std::uint32_t> new_port(DomId domain) override;
  Status seed_grants(DomId domain, std::uint64_t console, std::uint64_t store) override {
    return answer(xc_dom_gnttab_seed(xc_, domain, true, console, store, 0, 0),
                  "grant xenstore's and the console's page");
  }
  Result<std::uint64_t> page_numbers(DomId domain) override;
  Status populate(DomId domain, std::span<const std::uint64_t> pages, unsigned order) override;
  Status look(DomId domain, std::uint64_t first, std::span<bool> present) override;
  Status map(DomId domain, std::span<const std::uint64_t> pages, std::byte* at) override;
  Status log_dirty(DomId domain) override {
    return answer(xc_shadow_control(xc_, domain, XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY, nullptr, 0),
                  "have Xen log written pages");
  }
  Status log_dirty_off(DomId domain) override {
    return answer(xc_shadow_control(xc_, domain, XEN_DOMCTL_SHADOW_OP_OFF, nullptr, 0),
                  "stop logging written pages");
  }
  Result<std::span<const std::uint64_t>> take_dirty(DomId domain, std::uint64_t pages) override;
  Status mark_dirty(DomId domain, std::span<const std::uint64_t> pages) override;
  Status lent(DomId domain, std::vector<std::uint64_t>& pages) override;
  Status context(DomId domain, std::vector<std::byte>& context) override;
  Status set_context(DomId domain, std::span<const std::byte> context) override;
  Result<std::uint64_t> param(DomId domain, std::uint32_t index) override;
  Status set_param(DomId domain, std::uint32_t index, std::uint64_t value) override {
    return answer(xc_hvm_param_set(xc_, domain, index, value),
                  fmt::format("set HVM parameter {}", index));
  }
  Result<TscInfo> tsc(DomId domain) override;
  Status set_tsc(DomId domain, const TscInfo& tsc) override {
    return answer(
        xc_domain_set_tsc_info(xc_, domain, tsc.mode, tsc.nanos, tsc.khz, tsc.incarnation),
        "set the time stamp counter");
  }

  Result<std::optional<std::string>> read(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& path) override;
  Status write(const std::string& path, const std::string& value) override;
  Status remove(const std::string& path) override;
  Status permit(const std::string& path, DomId owner, std::optional<DomId> reader) override;
  Result<bool> replace(const std::string& path, const std::string& expected,
                       const std::string& value) override;
  Status introduce(DomId domain, std::uint64_t store_page, std::uint32_t port) override {
    if (xs_introduce_domain(xs_, domain, store_page, port)) return {};
    return failed("introduce the domain to xenstore");
  }
  Status store_resumed(DomId domain) override {
    if (xs_resume_domain(xs_, domain)) return {};
    return failed("tell xenstore that the domain runs again");
  }
  Status watch(const std::string& path) override {
    if (xs_watch(xs_, path.c_str(), "libft")) return {};
    return failed("watch xenstore's " + path);
  }
  Status unwatch(const std::string& path) override {
    if (xs_unwatch(xs_, path.c_str(), "libft")) return {};
    return failed("stop watching xenstore's " + path);
  }
  Status wait(Nanos timeout, int wake_fd) override;
  std::uint64_t fired(const std::string& path) const override {
    const auto found = fired_.find(path);
    return found == fired_.end() ? 0 : found->second;
  }

 private:
  Result<CpuPolicy> read_policy(std::string_view doing,
                                const std::function<int(xc_cpu_policy_t*)>& get);

  SilentLogger logger_{{say_nothing, show_nothing, destroy_nothing}};
  xc_interface* xc_ = nullptr;
  xenforeignmemory_handle* memory_ = nullptr;
  xs_handle* xs_ = nullptr;
  xendevicemodel_handle* model_ = nullptr;
  std::unique_ptr<Bitmap> bitmap_;
  std::map<std::string, std::uint64_t> fired_;

  // A domain's grant table, read only. It grows, and is mapped anew then.
  struct Grants {
    DomId domain = 0;
    std::uint32_t frames = 0;
    int version = 0;
    xenforeignmemory_resource_handle* resource = nullptr;
    const volatile std::uint16_t* entries = nullptr;
  };
  Status map_grants(DomId domain);
  void unmap_grants();
  Grants grants_;
};

Status Library::open() {
  xc_ = xc_interface_open(&logger_.calls, &logger_.calls, 0);
  if (xc_ == nullptr) return failed("open Xen's control interface (this must run as root in dom0)");
  memory_ = xenforeignmemory_open(&logger_.calls, 0);
  if (memory_ == nullptr) return failed("open Xen's foreign memory interface");
  xs_ = xs_open(0);
  if (xs_ == nullptr) return failed("open xenstore (is xenstored running?)");
  model_ = xendevicemodel_open(&logger_.calls, 0);
  if (model_ == nullptr) return failed("open Xen's interface for device models");
  bitmap_ = std::make_unique<Bitmap>(xc_);
  return {};
}

// --- the host -----------------------------------------------------------------------------------

Result<XenVersion> Library::version() {
  const int number = xc_version(xc_, XENVER_version, nullptr);
  xen_extraversion_t extra = {};
  if (number < 0 || xc_version(xc_, XENVER_extraversion, extra) < 0)
    return failure(failed("ask Xen for its version"));
  XenVersion version;
  version.major = static_cast<unsigned>(number) >> 16;
  version.minor = static_cast<unsigned>(number) & 0xffff;
  version.text = fmt::format("{}.{}{}", version.major, version.minor,
                             std::string_view(extra, ::strnlen(extra, sizeof extra)));
  return version;
}

Result<std::uint64_t> Library::free_bytes() {
  xc_physinfo_t info = {};
  if (xc_physinfo(xc_, &info) < 0) return failure(failed("ask Xen for its free memory"));
  return info.free_pages * kPageBytes;
}

// --- a domain's life ----------------------------------------------------------------------------

// A domain that was destroyed lives on, dying, while anybody has its memory mapped, and has no
// emulation state any more. Xen 4.17 falls over that when libxc writes the registers of such a
// domain's vCPU (xg_resume.c, modify_returncode; a page fault in hvmemul_cancel, by
// arch_set_info_guest): the whole host is gone. Seen on 4.17.7.
Status Library::resume(DomId domain) {
  FT_ASSIGN(const auto info, this->domain(domain));
  if (!info || info->dying) return Status(Code::guest_gone, "resume: the domain was destroyed");
  return answer(xc_domain_resume(xc_, domain, 1), "resume the domain");
}

Result<std::optional<DomainInfo>> Library::domain(DomId domain) {
  xc_domaininfo_t found = {};
  const int count = xc_domain_getinfolist(xc_, domain, 1, &found);
  if (count < 0) return failure(failed("ask Xen for the domain"));
  // The list begins with the first domain whose number is not smaller.
  if (count == 0 || found.domain != domain) return std::optional<DomainInfo>();
  DomainInfo info;
  info.id = domain;
  info.hvm = (found.flags & XEN_DOMINF_hvm_guest) != 0;
  info.hap = (found.flags & XEN_DOMINF_hap) != 0;
  info.dying = (found.flags & XEN_DOMINF_dying) != 0;
  info.shutdown = (found.flags & XEN_DOMINF_shutdown) != 0;
  info.paused = (found.flags & XEN_DOMINF_paused) != 0;
  info.reason = (found.flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
  info.total_pages = found.tot_pages;
  info.max_pages = found.max_pages;
  info.shared_pages = found.shr_pages;
  info.paged_pages = found.paged_pages;
  info.cpu_nanos = found.cpu_time;
  info.vcpus = found.max_vcpu_id == XEN_INVALID_MAX_VCPU_ID ? 0 : found.max_vcpu_id + 1;
  info.emulation = found.arch_config.emulation_flags;
  info.misc = found.arch_config.misc_flags;
  std::memcpy(info.handle.data(), found.handle, sizeof found.handle);
  return std::optional(info);
}

Result<DomId> Library::create(const NewDomain& config) {
  xen_domctl_createdomain wanted = {};
  std::memcpy(wanted.handle, config.handle.data(), config.handle.size());
  wanted.flags = config.flags;
  wanted.max_vcpus = config.vcpus;
  wanted.max_evtchn_port = ~0u;
  wanted.max_grant_frames = wanted.max_maptrack_frames = -1;  // The hypervisor's own limits.
  wanted.grant_opts = XEN_DOMCTL_GRANT_version(2);
  wanted.arch.emulation_flags = config.emulation;
  wanted.arch.misc_flags = config.misc;
  std::uint32_t domain = 0;
  if (xc_domain_create(xc_, &domain, &wanted) < 0) return failure(failed("create a domain"));
  return domain;
}

// --- its shape ----------------------------------------------------------------------------------

Result<std::uint64_t> Library::paging_pool(DomId domain) {
  std::uint64_t bytes = 0;
  if (xc_get_paging_mempool_size(xc_, domain, &bytes) < 0)
    return failure(failed("ask for the domain's paging memory"));
  return bytes;
}

Result<CpuPolicy> Library::read_policy(std::string_view doing,
                                       const std::function<int(xc_cpu_policy_t*)>& get) {
  std::uint32_t leaves = 0, msrs = 0;
  if (xc_cpu_policy_get_size(xc_, &leaves, &msrs) < 0)
    return failure(failed("ask for the size of a CPU policy"));
  const std::unique_ptr<xc_cpu_policy_t, void (*)(xc_cpu_policy_t*)> policy(xc_cpu_policy_init(),
                                                                            xc_cpu_policy_destroy);
  if (!policy) return failure(failed("hold a CPU policy"));
  CpuPolicy found;
  found.leaves.resize(leaves * sizeof(xen_cpuid_leaf_t));
  found.msrs.resize(msrs * sizeof(xen_msr_entry_t));
  if (get(policy.get()) < 0 ||
      xc_cpu_policy_serialise(xc_, policy.get(),
                              reinterpret_cast<xen_cpuid_leaf_t*>(found.leaves.data()), &leaves,
                              reinterpret_cast<xen_msr_entry_t*>(found.msrs.data()), &msrs) < 0)
    return failure(failed(doing));
  found.leaves.resize(leaves * sizeof(xen_cpuid_leaf_t));
  found.msrs.resize(msrs * sizeof(xen_msr_entry_t));
  return found;
}

Result<CpuPolicy> Library::cpu_policy(DomId domain) {
  return read_policy("ask for the domain's CPU policy", [&](xc_cpu_policy_t* policy) {
    return xc_cpu_policy_get_domain(xc_, domain, policy);
  });
}

Result<CpuPolicy> Library::cpu_policy_max() {
  return read_policy("ask for the host's CPU policy", [&](xc_cpu_policy_t* policy) {
    return xc_cpu_policy_get_system(xc_, XEN_SYSCTL_cpu_policy_hvm_max, policy);
  });
}

Status Library::set_cpu_policy(DomId domain, const CpuPolicy& policy) {
  const std::uint32_t none = ~0u;
  std::uint32_t leaf = none, subleaf = none, msr = none;
  std::vector<xen_cpuid_leaf_t> leaves(policy.leaves.size() / sizeof(xen_cpuid_leaf_t));
  std::vector<xen_msr_entry_t> msrs(policy.msrs.size() / sizeof(xen_msr_entry_t));
  std::memcpy(leaves.data(), policy.leaves.data(), leaves.size() * sizeof leaves[0]);
  std::memcpy(msrs.data(), policy.msrs.data(), msrs.size() * sizeof msrs[0]);
  if (xc_set_domain_cpu_policy(xc_, domain, static_cast<std::uint32_t>(leaves.size()),
                               leaves.data(), static_cast<std::uint32_t>(msrs.size()), msrs.data(),
                               &leaf, &subleaf, &msr) == 0)
    return {};
  const Status why = failed("give the domain the primary's CPU policy");
  if (leaf == none && msr == none) return why;
  return Status(Code::refused,
                why.message() +
                    (leaf != none ? fmt::format(": CPUID leaf {:#x}, subleaf {:#x}", leaf, subleaf)
                                  : fmt::format(": MSR {:#x}", msr)) +
                    " is not what this host's processor can give");
}

Result<std::uint64_t> Library::pod_entries(DomId domain) {
  std::uint64_t total = 0, cache = 0, entries = 0;
  if (xc_domain_get_pod_target(xc_, domain, &total, &cache, &entries) < 0)
    return failure(failed("ask for memory populated on demand"));
  return entries;
}

Result<std::uint32_t> Library::new_port(DomId domain) {
  const int port = xc_evtchn_alloc_unbound(xc_, domain, 0);
  if (port < 0) return failure(failed("allocate an event channel"));
  return static_cast<std::uint32_t>(port);
}

// --- its memory ---------------------------------------------------------------------------------

Result<std::uint64_t> Library::page_numbers(DomId domain) {
  xen_pfn_t numbers = 0;
  if (xc_domain_nr_gpfns(xc_, domain, &numbers) < 0)
    return failure(failed("ask for the domain's page numbers"));
  return std::uint64_t{numbers};
}

Status Library::populate(DomId domain, std::span<const std::uint64_t> pages, unsigned order) {
  std::vector<xen_pfn_t> list(pages.begin(), pages.end());
  return answer(xc_domain_populate_physmap_exact(xc_, domain, list.size(), order, 0, list.data()),
                "reserve the guest's memory");
}

Status Library::look(DomId domain, std::uint64_t first, std::span<bool> present) {
  std::vector<xen_pfn_t> types(present.size());
  for (std::size_t i = 0; i < types.size(); ++i) types[i] = first + i;
  if (xc_get_pfn_type_batch(xc_, domain, static_cast<unsigned>(types.size()), types.data()) < 0)
    return failed("ask for the types of the guest's pages");
  for (std::size_t i = 0; i < types.size(); ++i) {
    const auto type = types[i] & XEN_DOMCTL_PFINFO_LTAB_MASK;
    if (type == XEN_DOMCTL_PFINFO_BROKEN)
      return Status(Code::unsupported,
                    fmt::format("the host's memory behind the guest's page {} is broken: start "
                                "the guest anew",
                                first + i));
    present[i] = type != XEN_DOMCTL_PFINFO_XTAB && type != XEN_DOMCTL_PFINFO_XALLOC;
  }
  return {};
}

Status Library::map(DomId domain, std::span<const std::uint64_t> pages, std::byte* at) {
  std::vector<xen_pfn_t> list(pages.begin(), pages.end());
  std::vector<int> errors(list.size());
  void* const mapped =
      xenforeignmemory_map2(memory_, domain, at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                            list.size(), list.data(), errors.data());
  if (mapped == nullptr) return failed("map the guest's memory");
  for (std::size_t i = 0; i < errors.size(); ++i) {
    if (errors[i] != 0)
      return os::errno_status(fmt::format("map the guest's page {}", pages[i]),
                              std::abs(errors[i]));
  }
  return {};
}

Result<std::span<const std::uint64_t>> Library::take_dirty(DomId domain, std::uint64_t pages) {
  if (!bitmap_->reserve(pages)) return failure(failed("reserve the bitmap of written pages"));
  xc_shadow_op_stats_t stats = {};
  const long long taken = xc_logdirty_control(xc_, domain, XEN_DOMCTL_SHADOW_OP_CLEAN,
                                              bitmap_->buffer(), pages, 0, &stats);
  if (taken < 0) return failure(failed("take the log of written pages"));
  if (static_cast<std::uint64_t>(taken) < pages)
    return failure(Code::io, fmt::format("Xen answered for {} of {} pages", taken, pages));
  return bitmap_->words(pages);
}

// What a device model says of its DMA. Xen takes it for any HVM or PVH domain.
Status Library::mark_dirty(DomId domain, std::span<const std::uint64_t> pages) {
  std::vector<xen_dm_op_modified_memory_extent> extents;
  for (const std::uint64_t page : pages) {
    if (!extents.empty() && extents.back().first_pfn + extents.back().nr == page)
      ++extents.back().nr;
    else
      extents.push_back({.nr = 1, .pad = 0, .first_pfn = page});
  }
  return answer(
      xendevicemodel_modified_memory_bulk(model_, static_cast<domid_t>(domain), extents.data(),
                                          static_cast<std::uint32_t>(extents.size())),
      "mark the guest's pages as written");
}

void Library::unmap_grants() {
  if (grants_.resource != nullptr) xenforeignmemory_unmap_resource(memory_, grants_.resource);
  grants_ = {};
}

Status Library::map_grants(DomId domain) {
  gnttab_query_size size = {};
  size.dom = static_cast<domid_t>(domain);
  if (xc_gnttab_query_size(xc_, &size) < 0 || size.status != GNTST_okay)
    return failed("ask for the size of the domain's grant table");
  const int version = xc_gnttab_get_version(xc_, domain);
  if (version < 0) return failed("ask for the version of the domain's grant table");
  if (grants_.domain == domain && grants_.frames == size.nr_frames && grants_.version == version)
    return {};
  unmap_grants();
  void* entries = nullptr;
  auto* const resource = xenforeignmemory_map_resource(
      memory_, static_cast<domid_t>(domain), XENMEM_resource_grant_table,
      XENMEM_resource_grant_table_id_shared, 0, size.nr_frames, &entries, PROT_READ, 0);
  if (resource == nullptr) return failed("map the domain's grant table");
  grants_ = {domain, size.nr_frames, version, resource,
             static_cast<const volatile std::uint16_t*>(entries)};
  return {};
}

// An entry of version 1 is flags, domid (2 bytes each) and page number (4), and says itself whether
// it is mapped to be written; one of version 2 has 16 bytes, the page number (8) in their middle,
// and keeps that elsewhere, so that all that may be written count (public/grant_table.h).
Status Library::lent(DomId domain, std::vector<std::uint64_t>& pages) {
  FT_TRY(map_grants(domain));
  const bool first = grants_.version < 2;
  const std::size_t words = first ? 4 : 8;
  const std::size_t count = grants_.frames * kPageBytes / (2 * words);
  for (std::size_t i = 0; i < count; ++i) {
    const volatile std::uint16_t* const entry = grants_.entries + i * words;
    const std::uint16_t flags = entry[0];
    if ((flags & GTF_type_mask) != GTF_permit_access || (flags & GTF_readonly) != 0) continue;
    if (first && (flags & GTF_writing) == 0) continue;
    const std::size_t at = first ? 2 : 4;
    std::uint64_t page = entry[at] | std::uint64_t{entry[at + 1]} << 16;
    if (!first) page |= std::uint64_t{entry[at + 2]} << 32;
    pages.push_back(page);
  }
  return {};
}

// --- its processors' and platform's state -------------------------------------------------------

Status Library::context(DomId domain, std::vector<std::byte>& context) {
  const auto get = [&](std::byte* to, std::size_t size) {
    return xc_domain_hvm_getcontext(xc_, domain, reinterpret_cast<std::uint8_t*>(to),
                                    static_cast<std::uint32_t>(size));
  };
  // The size of the last time fits nearly always, and saves a call while the guest stands still.
  int size = context.empty() ? -1 : get(context.data(), context.size());
  if (size < 0) {
    size = get(nullptr, 0);
    if (size < 0) return failed("ask for the size of the HVM context");
    context.resize(static_cast<std::size_t>(size));
    size = get(context.data(), context.size());
    if (size < 0) return failed("take the HVM context");
  }
  context.resize(static_cast<std::size_t>(size));
  return {};
}

Status Library::set_context(DomId domain, std::span<const std::byte> context) {
  std::vector<std::uint8_t> copy(context.size());
  std::memcpy(copy.data(), context.data(), context.size());
  return answer(
      xc_domain_hvm_setcontext(xc_, domain, copy.data(), static_cast<std::uint32_t>(copy.size())),
      "set the HVM context");
}

Result<std::uint64_t> Library::param(DomId domain, std::uint32_t index) {
  std::uint64_t value = 0;
  if (xc_hvm_param_get(xc_, domain, index, &value) < 0)
    return failure(failed(fmt::format("ask for HVM parameter {}", index)));
  return value;
}

Result<TscInfo> Library::tsc(DomId domain) {
  TscInfo tsc;
  if (xc_domain_get_tsc_info(xc_, domain, &tsc.mode, &tsc.nanos, &tsc.khz, &tsc.incarnation) < 0)
    return failure(failed("ask for the time stamp counter"));
  return tsc;
}

// --- xenstore -----------------------------------------------------------------------------------

Result<std::optional<std::string>> Library::read(const std::string& path) {
  unsigned length = 0;
  const std::unique_ptr<void, void (*)(void*)> value(xs_read(xs_, XBT_NULL, path.c_str(), &length),
                                                     std::free);
  if (value) return std::optional(std::string(static_cast<const char*>(value.get()), length));
  if (errno == ENOENT) return std::optional<std::string>();
  return failure(failed("read xenstore's " + path));
}

Result<std::vector<std::string>> Library::list(const std::string& path) {
  unsigned count = 0;
  const std::unique_ptr<char*, void (*)(void*)> names(
      xs_directory(xs_, XBT_NULL, path.c_str(), &count), std::free);
  if (names) return std::vector<std::string>(names.get(), names.get() + count);
  if (errno == ENOENT) return std::vector<std::string>();
  return failure(failed("list xenstore's " + path));
}

Status Library::write(const std::string& path, const std::string& value) {
  if (xs_write(xs_, XBT_NULL, path.c_str(), value.data(), static_cast<unsigned>(value.size())))
    return {};
  return failed("write xenstore's " + path);
}

Status Library::remove(const std::string& path) {
  if (xs_rm(xs_, XBT_NULL, path.c_str()) || errno == ENOENT) return {};
  return failed("remove xenstore's " + path);
}

Status Library::permit(const std::string& path, DomId owner, std::optional<DomId> reader) {
  xs_permissions permissions[2] = {};
  permissions[0].id = owner;
  permissions[0].perms = XS_PERM_NONE;  // For everybody else.
  permissions[1].id = reader.value_or(0);
  permissions[1].perms = XS_PERM_READ;
  if (xs_set_permissions(xs_, XBT_NULL, path.c_str(), permissions, reader ? 2 : 1)) return {};
  return failed("set the permissions of xenstore's " + path);
}

Result<bool> Library::replace(const std::string& path, const std::string& expected,
                              const std::string& value) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    const xs_transaction_t transaction = xs_transaction_start(xs_);
    if (transaction == XBT_NULL) return failure(failed("begin a transaction of xenstore"));
    unsigned length = 0;
    const std::unique_ptr<void, void (*)(void*)> found(
        xs_read(xs_, transaction, path.c_str(), &length), std::free);
    const bool as_expected =
        found && std::string_view(static_cast<const char*>(found.get()), length) == expected;
    const bool written = as_expected && xs_write(xs_, transaction, path.c_str(), value.data(),
                                                 static_cast<unsigned>(value.size()));
    const int why = errno;
    if (xs_transaction_end(xs_, transaction, !written)) {
      if (as_expected && !written)
        return failure(os::errno_status("write xenstore's " + path, why));
      return as_expected;
    }
    if (errno != EAGAIN) return failure(failed("end a transaction of xenstore"));
  }
  return failure(Code::busy, "xenstore's " + path + " changes all the time");
}

Status Library::wait(Nanos timeout, int wake_fd) {
  const auto woke = os::wait_ready(xs_fileno(xs_), POLLIN, wake_fd, timeout);
  if (!woke) return woke.error();
  if (*woke != os::Woke::ready) return {};
  while (char** const fired = xs_check_watch(xs_)) {
    // Of what is watched as a whole (backends of a domain) only how often is no news.
    if (fired_.size() < kPathsCounted || fired_.contains(fired[XS_WATCH_PATH]))
      ++fired_[fired[XS_WATCH_PATH]];
    std::free(fired);
  }
  if (errno == EAGAIN) return {};
  return failed("hear xenstore's watches");
}

Result<std::unique_ptr<XenCalls>> open_library() {
  auto library = std::make_unique<Library>();
  FT_TRY(library->open());
  return library;
}

}  // namespace
}  // namespace libft::xen

extern "C" __attribute__((visibility("default"))) const libft::xen::ModuleEntry*
libft_xen_module() {
  static constexpr libft::xen::ModuleEntry entry{libft::xen::kModuleVersion, LIBFT_VERSION,
                                                 LIBFT_XEN_MINOR, &libft::xen::open_library};
  return &entry;
}
