// SPDX-License-Identifier: LGPL-2.1-or-later
// Linux 6.7 and newer: asynchronous write protection, read and re-armed in one call from outside.
// The registration was made in QEMU's process by preload.c.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "guest/qemu/tracker.h"
#include "guest/qemu/uapi.h"
#include "os/fd.h"

namespace libft::qemu {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

class UserfaultfdTracker final : public Tracker {
 public:
  UserfaultfdTracker(os::ScopedFd pagemap, std::vector<TrackedMemory> memory)
      : pagemap_(std::move(pagemap)), memory_(std::move(memory)), found_(4096) {}

  std::string_view name() const override { return "userfaultfd"; }
  bool needs_pause() const override { return false; }  // Get and re-protect are one step.
  bool stays() const override { return true; }         // QEMU keeps its userfaultfd open.

  // Protects everything: a page that nobody has protected yet counts as written.
  Status start() override {
    PageSet all;
    FT_TRY(scan_all(all));
    carried_.clear();
    return {};
  }

  void stop() override {}  // What stays protected costs one minor fault a page, once.

  Status take_written(PageSet& written) override {
    FT_TRY(scan_all(carried_));  // On failure the pages found so far stay in carried_.
    written.merge(carried_);
    carried_.clear();
    return {};
  }

  // Whether all of the memory is registered; changes nothing.
  Status check() {
    for (const TrackedMemory& memory : memory_) {
      ft_pm_scan_arg scan = request(memory, memory.address);
      scan.flags = FT_PM_SCAN_CHECK_WPASYNC;
      scan.max_pages = 1;
      if (::ioctl(pagemap_.get(), FT_PAGEMAP_SCAN, &scan) >= 0) continue;
      if (errno == EPERM)
        return Status(Code::unsupported,
                      "QEMU's memory is not registered with userfaultfd: start QEMU with libft's "
                      "preload object (ftctl run, or LD_PRELOAD=libft-preload.so)");
      if (errno == ENOTTY || errno == EINVAL)
        return Status(Code::unsupported, "this kernel has no PAGEMAP_SCAN: Linux 6.7 has");
      return os::errno_status("PAGEMAP_SCAN");
    }
    return {};
  }

 private:
  ft_pm_scan_arg request(const TrackedMemory& memory, std::uint64_t from) {
    ft_pm_scan_arg scan{};
    scan.size = sizeof scan;
    scan.flags = FT_PM_SCAN_WP_MATCHING | FT_PM_SCAN_CHECK_WPASYNC;
    scan.start = from;
    scan.end = memory.address + memory.bytes.size();
    scan.vec = reinterpret_cast<std::uintptr_t>(found_.data());
    scan.vec_len = found_.size();
    scan.category_mask = FT_PAGE_IS_WRITTEN;
    scan.return_mask = FT_PAGE_IS_WRITTEN;
    return scan;
  }

  Status scan_all(PageSet& pages) {
    for (const TrackedMemory& memory : memory_) FT_TRY(scan(memory, pages));
    return {};
  }

  Status scan(const TrackedMemory& memory, PageSet& pages) {
    const std::uint64_t end = memory.address + memory.bytes.size();
    for (std::uint64_t from = memory.address; from < end;) {
      ft_pm_scan_arg scan = request(memory, from);
      const int count = ::ioctl(pagemap_.get(), FT_PAGEMAP_SCAN, &scan);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == ESRCH || errno == ENOENT))
        return Status(Code::guest_gone, "PAGEMAP_SCAN: the QEMU process has ended");
      if (count < 0) return os::errno_status("PAGEMAP_SCAN");
      for (int i = 0; i < count; ++i)
        pages.add(PageNo{memory.first.value + (found_[i].start - memory.address) / kPageBytes},
                  (found_[i].end - found_[i].start) / kPageBytes);
      from = scan.walk_end;
    }
    return {};
  }

  os::ScopedFd pagemap_;
  std::vector<TrackedMemory> memory_;
  std::vector<ft_page_region> found_;
  PageSet carried_;
};

}  // namespace

Result<std::unique_ptr<Tracker>> open_userfaultfd_tracker(pid_t pid,
                                                          std::vector<TrackedMemory> memory) {
  os::ScopedFd pagemap(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return failure(os::errno_status("open QEMU's pagemap"));
  auto tracker = std::make_unique<UserfaultfdTracker>(std::move(pagemap), std::move(memory));
  FT_TRY(tracker->check());
  return tracker;
}

}  // namespace libft::qemu
