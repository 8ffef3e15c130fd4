// SPDX-License-Identifier: LGPL-2.1-or-later
// Kernels with CONFIG_MEM_SOFT_DIRTY (Debian's have it): bit 55 of /proc/PID/pagemap, cleared for
// the whole process by writing 4 to clear_refs. No preload object, but reading and clearing are two
// steps, and reading costs 4-9 ms a GiB.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "guest/qemu/tracker.h"
#include "os/fd.h"
#include "os/file.h"

namespace libft::qemu {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kSoftDirty = 1ULL << 55;

// Shared pages lose their mark when the kernel unmaps them behind our back: swapping them out, or
// collapsing them into a huge page. Both must be impossible.
Status check_pages_stay(const std::vector<TrackedMemory>& memory) {
  const auto huge = os::read_file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", 4096);
  if (huge && huge->find("[never]") == std::string::npos &&
      huge->find("[deny]") == std::string::npos)
    return Status(
        Code::unsupported,
        "huge pages for shared memory are on, and collapsing loses soft-dirty marks: echo "
        "never > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
  const auto swaps = os::read_file("/proc/swaps", 65536);
  const bool swapping = !swaps || std::count(swaps->begin(), swaps->end(), '\n') > 1;
  for (const TrackedMemory& piece : memory)
    if (swapping && ::mlock(piece.bytes.data(), piece.bytes.size()) != 0)
      return Status(Code::unsupported,
                    "swapping loses soft-dirty marks and guest memory cannot be locked: raise the "
                    "limit for locked memory (ulimit -l), or switch swap off");
  return {};
}

class SoftDirtyTracker final : public Tracker {
 public:
  SoftDirtyTracker(os::ScopedFd pagemap, os::ScopedFd clear, std::vector<TrackedMemory> memory)
      : pagemap_(std::move(pagemap)),
        clear_(std::move(clear)),
        memory_(std::move(memory)),
        entries_(65536) {}

  std::string_view name() const override { return "soft-dirty"; }
  bool needs_pause() const override { return true; }
  bool stays() const override { return true; }
  Status start() override {
    carried_.clear();
    return clear();
  }
  void stop() override {}

  Status take_written(PageSet& written) override {
    for (const TrackedMemory& memory : memory_) FT_TRY(read(memory));
    FT_TRY(clear());
    written.merge(carried_);
    carried_.clear();
    return {};
  }

 private:
  Status clear() {
    if (::pwrite(clear_.get(), "4", 1, 0) == 1) return {};
    if (errno == ESRCH) return Status(Code::guest_gone, "clear_refs: the QEMU process has ended");
    return os::errno_status("clear soft-dirty marks");
  }

  Status read(const TrackedMemory& memory) {
    const std::uint64_t pages = memory.bytes.size() / kPageBytes;
    for (std::uint64_t done = 0; done < pages;) {
      const std::uint64_t want = std::min<std::uint64_t>(entries_.size(), pages - done);
      const ssize_t got = ::pread(pagemap_.get(), entries_.data(), want * 8,
                                  static_cast<off_t>((memory.address / kPageBytes + done) * 8));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return os::errno_status("read QEMU's pagemap");
      if (got < 8) return Status(Code::guest_gone, "pagemap: the QEMU process has ended");
      const std::uint64_t count = static_cast<std::uint64_t>(got) / 8;
      add(memory.first.value + done, count);
      done += count;
    }
    return {};
  }

  void add(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t begin = i;
      while (i < count && (entries_[i] & kSoftDirty) != 0) ++i;
      if (i > begin) found_.add(PageNo{first + begin}, i - begin);
    }
    carried_.merge(found_);
    found_.clear();
  }

  os::ScopedFd pagemap_;
  os::ScopedFd clear_;
  std::vector<TrackedMemory> memory_;
  std::vector<std::uint64_t> entries_;
  PageSet found_;
  PageSet carried_;
};

// The kernel accepts the "4" also where it keeps no such marks: write a page and look.
Status check_kernel_marks() {
  void* page =
      ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return os::errno_status("mmap");
  auto* byte = static_cast<volatile char*>(page);
  os::ScopedFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  os::ScopedFd clear(::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
  const off_t at = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(page) / kPageBytes * 8);
  std::uint64_t before = kSoftDirty;
  std::uint64_t after = 0;
  *byte = 1;
  bool asked = ::pwrite(clear.get(), "4", 1, 0) == 1 && ::pread(pagemap.get(), &before, 8, at) == 8;
  *byte = 2;
  asked = asked && ::pread(pagemap.get(), &after, 8, at) == 8;
  ::munmap(page, kPageBytes);
  if (asked && (before & kSoftDirty) == 0 && (after & kSoftDirty) != 0) return {};
  return Status(Code::unsupported, "this kernel was built without CONFIG_MEM_SOFT_DIRTY");
}

}  // namespace

Result<std::unique_ptr<Tracker>> open_soft_dirty_tracker(pid_t pid,
                                                         std::vector<TrackedMemory> memory) {
  FT_TRY(check_kernel_marks());
  FT_TRY(check_pages_stay(memory));
  os::ScopedFd pagemap(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
  os::ScopedFd clear(::open(fmt::format("/proc/{}/clear_refs", pid).c_str(), O_WRONLY | O_CLOEXEC));
  if (!pagemap.valid() || !clear.valid())
    return failure(os::errno_status("open QEMU's pagemap and clear_refs (same user as QEMU?)"));
  return std::make_unique<SoftDirtyTracker>(std::move(pagemap), std::move(clear),
                                            std::move(memory));
}

}  // namespace libft::qemu
