// SPDX-License-Identifier: LGPL-2.1-or-later
// Which tracker: the table, the choice, and the trial on this process's own memory.
#include "guest/qemu/tracker.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

#include "guest/qemu/uapi.h"
#include "os/fd.h"

namespace libft::qemu {
namespace {

using OpenTracker = Result<std::unique_ptr<Tracker>> (*)(pid_t, std::vector<TrackedMemory>);

struct TrackerKind {
  const char* name;
  OpenTracker open;
  const char* advice;
};

constexpr TrackerKind kTrackers[] = {
    {"userfaultfd", open_userfaultfd_tracker, "any guest size"},
    {"soft-dirty", open_soft_dirty_tracker,
     "guests up to about 2 GiB; for larger ones a kernel of 6.7 or newer"},
    {"compare", open_compare_tracker,
     "guests up to about 256 MiB; needs as much memory again as the guest"},
};

constexpr std::size_t kProbeBytes = 64u << 20;
constexpr std::size_t kPageBytes = 4096;

// Registers memory of this process as preload.c does for QEMU's.
Result<os::ScopedFd> register_here(std::span<std::byte> memory) {
  os::ScopedFd fd(static_cast<int>(
      ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | FT_UFFD_USER_MODE_ONLY)));
  if (!fd.valid()) return failure(os::errno_status("userfaultfd"));
  ft_uffdio_api api{FT_UFFD_API,
                    FT_UFFD_FEATURE_WP_ASYNC | FT_UFFD_FEATURE_WP_UNPOPULATED |
                        FT_UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
                    0};
  if (::ioctl(fd.get(), FT_UFFDIO_API, &api) != 0)
    return failure(Code::unsupported,
                   "this kernel's userfaultfd has no asynchronous write protection: Linux 6.7 has");
  ft_uffdio_register range{reinterpret_cast<std::uintptr_t>(memory.data()), memory.size(),
                           FT_UFFD_REGISTER_MODE_WP, 0};
  if (::ioctl(fd.get(), FT_UFFDIO_REGISTER, &range) != 0)
    return failure(os::errno_status("register with userfaultfd"));
  return fd;
}

// Writes two known pages and asks for them, as a checkpoint would.
Status try_out(Tracker& tracker, std::span<std::byte> memory, double& milliseconds) {
  FT_TRY(tracker.start());
  PageSet written;
  FT_TRY(tracker.take_written(written));
  written.clear();
  memory[3 * kPageBytes] ^= std::byte{1};
  memory[memory.size() - 1] ^= std::byte{1};
  const auto begin = std::chrono::steady_clock::now();
  FT_TRY(tracker.take_written(written));
  milliseconds =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  PageSet expected;
  expected.add(PageNo{3});
  expected.add(PageNo{memory.size() / kPageBytes - 1});
  if (written == expected) return {};
  return Status(Code::unsupported,
                fmt::format("the kernel reported {} written pages instead of 2", written.pages()));
}

Status probe(const TrackerKind& kind, std::span<std::byte> memory, double& milliseconds) {
  os::ScopedFd registration;
  if (kind.open == open_userfaultfd_tracker) {
    FT_ASSIGN(registration, register_here(memory));
  }
  FT_ASSIGN(std::unique_ptr<Tracker> tracker,
            kind.open(::getpid(), {TrackedMemory{reinterpret_cast<std::uintptr_t>(memory.data()),
                                                 PageNo{0}, memory}}));
  return try_out(*tracker, memory, milliseconds);
}

}  // namespace

Result<std::unique_ptr<Tracker>> open_best_tracker(pid_t pid,
                                                   const std::vector<TrackedMemory>& memory,
                                                   std::vector<std::string>& reasons) {
  for (const TrackerKind& kind : kTrackers) {
    auto tracker = kind.open(pid, memory);
    if (tracker) return tracker;
    reasons.push_back(fmt::format("{}: {}", kind.name, tracker.error().message()));
  }
  return failure(Code::unsupported, fmt::format("no way to find written pages works here: {}",
                                                fmt::join(reasons, "; ")));
}

std::vector<TrackerProbe> probe_trackers() {
  std::vector<TrackerProbe> probes;
  for (const TrackerKind& kind : kTrackers) {
    TrackerProbe answer{kind.name, false, "", 0, kind.advice};
    void* memory =
        ::mmap(nullptr, kProbeBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      answer.reason = os::errno_status("mmap").message();
    } else {
      std::memset(memory, 1, kProbeBytes);
      double milliseconds = 0;
      const Status status =
          probe(kind, {static_cast<std::byte*>(memory), kProbeBytes}, milliseconds);
      answer.works = status.ok();
      answer.reason = status.message();
      if (status.ok()) answer.scan_ms_per_gib = milliseconds * ((1u << 30) / kProbeBytes);
      ::munmap(memory, kProbeBytes);
    }
    probes.push_back(std::move(answer));
  }
  return probes;
}

}  // namespace libft::qemu
