// SPDX-License-Identifier: LGPL-2.1-or-later
// A Tracker finds the pages of a QEMU process's guest memory that were written since the last ask.
// Three exist, for three ages of the kernel; the driver probes and takes the best that works.
// Session's thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libft/page_set.h"
#include "libft/status.h"

namespace libft::qemu {

// Guest memory as QEMU has it mapped, and as this process has.
struct TrackedMemory {
  std::uint64_t address = 0;   // In QEMU.
  PageNo first;                // Page number of its first byte.
  std::span<std::byte> bytes;  // Here.
};

class Tracker {
 public:
  virtual ~Tracker() = default;
  virtual std::string_view name() const = 0;  // As in GuestInfo::tracker.

  // True when take_written() misses pages that are written while it runs: the guest must stand
  // still for it.
  virtual bool needs_pause() const = 0;

  // True when the marks are the kernel's, of QEMU's process: another tracker of the same kind, in
  // another process, goes on with them without start().
  virtual bool stays() const = 0;

  virtual Status start() = 0;
  virtual void stop() = 0;

  // Adds to `written` all pages written since start() or the last call. On failure nothing is lost:
  // what was found is part of the next answer.
  virtual Status take_written(PageSet& written) = 0;
};

// Each fails, without side effect, where it cannot work; the message says why and what would help.
Result<std::unique_ptr<Tracker>> open_userfaultfd_tracker(pid_t pid,
                                                          std::vector<TrackedMemory> memory);
Result<std::unique_ptr<Tracker>> open_soft_dirty_tracker(pid_t pid,
                                                         std::vector<TrackedMemory> memory);
Result<std::unique_ptr<Tracker>> open_compare_tracker(pid_t pid, std::vector<TrackedMemory> memory);

// The best one that works for this process; `reasons` receives why better ones do not.
Result<std::unique_ptr<Tracker>> open_best_tracker(pid_t pid,
                                                   const std::vector<TrackedMemory>& memory,
                                                   std::vector<std::string>& reasons);

// For `doctor`: what this host's kernel can do, tried out on memory of this process.
struct TrackerProbe {
  std::string name;
  bool works = false;
  std::string reason;  // Why not, and what would help.
  double scan_ms_per_gib =
      0;               // Measured now, for memory that is all present; 0 if it does not work.
  std::string advice;  // For which guests it is good enough.
};
std::vector<TrackerProbe> probe_trackers();  // Best first.

}  // namespace libft::qemu
