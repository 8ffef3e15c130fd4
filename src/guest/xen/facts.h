// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbers of Xen's ABI that the driver uses without Xen's headers, which only the module includes
// (module/library.cc compares each of them with those headers when it is compiled), and what
// differs between the minors of Xen that libft knows. Sources: xen/include/public/{sched,domctl}.h,
// public/hvm/params.h, public/arch-x86/xen.h of Xen 4.17 to 4.20. Constants; any thread.
#pragma once

#include <cstdint>

namespace libft::xen {

constexpr std::uint64_t kPageBytes = 4096;
constexpr unsigned kSuperpageOrder = 9;

// --- why a domain was shut down ---
constexpr unsigned kShutdownPoweroff = 0, kShutdownReboot = 1, kShutdownSuspend = 2,
                   kShutdownCrash = 3, kShutdownWatchdog = 4, kShutdownSoftReset = 5;

// --- flags of a new domain ---
constexpr std::uint32_t kCreateHvm = 1u << 0, kCreateHap = 1u << 1;
constexpr std::uint32_t kEmulateLapic = 1u << 0;  // All that a PVH domain has emulated.

// --- HVM parameters ---
constexpr std::uint32_t kParamCallbackIrq = 0, kParamStorePfn = 1, kParamStorePort = 2,
                        kParamIoreqPfn = 5, kParamBufioreqPfn = 6, kParamViridian = 9,
                        kParamTimerMode = 10, kParamHpet = 11, kParamIdentPt = 12,
                        kParamAcpiSState = 14, kParamVptAlign = 16, kParamConsolePfn = 17,
                        kParamConsolePort = 18, kParamAcpiIoports = 19, kParamPagingRing = 27,
                        kParamMonitorRing = 28, kParamSharingRing = 29, kParamTripleFault = 31,
                        kParamIoreqServerPfn = 32, kParamIoreqServerPages = 33,
                        kParamGenerationId = 34, kParamAltp2m = 35, kParamX87FipWidth = 36,
                        kParamVm86TssSized = 37, kParamMcaCap = 38;

// What a migration carries (tools/libs/guest/xg_sr_save_x86_hvm.c), and what libxl sets from the
// domain's configuration (libxl_x86.c: hvm_set_conf_params), which libft does not have on the
// backup. All are constant once the domain was built.
constexpr std::uint32_t kCarriedParams[] = {
    kParamStorePfn,    kParamIoreqPfn,       kParamBufioreqPfn,      kParamPagingRing,
    kParamMonitorRing, kParamSharingRing,    kParamVm86TssSized,     kParamConsolePfn,
    kParamAcpiIoports, kParamViridian,       kParamIdentPt,          kParamGenerationId,
    kParamX87FipWidth, kParamIoreqServerPfn, kParamIoreqServerPages, kParamMcaCap,
    kParamTimerMode,   kParamHpet,           kParamVptAlign,         kParamTripleFault};

// --- minors ---
constexpr unsigned kXenMajor = 4, kXenMinorOldest = 17, kXenMinorNewest = 20;

// 4.18 removed xc_domain_getinfo, which libft does not use: xc_domain_getinfolist is the same in
// all of these minors. 4.20 knows an ioreq server's pages only as resources: two parameters are
// gone there, and a failure to read one means "this domain has none".
constexpr bool param_may_be_missing(std::uint32_t param) {
  return param == kParamIoreqPfn || param == kParamBufioreqPfn || param == kParamIoreqServerPfn ||
         param == kParamIoreqServerPages || param == kParamPagingRing ||
         param == kParamMonitorRing || param == kParamSharingRing || param == kParamAltp2m;
}

}  // namespace libft::xen
