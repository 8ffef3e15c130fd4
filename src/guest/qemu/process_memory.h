// SPDX-License-Identifier: LGPL-2.1-or-later
// Guest memory of a QEMU process: which memfds it has, where it mapped them, and a mapping of the
// same pages here. Everything is read from /proc/PID, so the caller is QEMU's user or root.
// Session's thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "guest/qemu/tracker.h"
#include "libft/guest.h"
#include "libft/status.h"

namespace libft::qemu {

// One `memory-backend-memfd`.
struct MemoryBackend {
  int fd = -1;                // Its number in QEMU.
  std::uint64_t address = 0;  // Where QEMU mapped it.
  std::uint64_t bytes = 0;
  bool shared = false;  // share=on: what QEMU writes is what others see.
};

// In the order in which QEMU made them, which the command line decides: the same on both hosts.
Result<std::vector<MemoryBackend>> find_memory(pid_t pid);

// The same pages, mapped here as long as this object lives.
class SharedMemory {
 public:
  static Result<SharedMemory> map(pid_t pid, const std::vector<MemoryBackend>& backends);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  std::vector<MemoryRegion> regions() const;  // Named "ram", "ram1", ...
  const std::vector<TrackedMemory>& tracked() const { return tracked_; }

 private:
  SharedMemory() = default;
  std::vector<TrackedMemory> tracked_;
};

// The arguments of a running process.
Result<std::vector<std::string>> command_line_of(pid_t pid);

}  // namespace libft::qemu
