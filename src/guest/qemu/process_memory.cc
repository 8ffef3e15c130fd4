// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/process_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <thread>

#include "os/fd.h"
#include "os/file.h"

namespace libft::qemu {
namespace {

constexpr std::size_t kProcBytesMax = 16u << 20;
constexpr std::uint64_t kPageBytes = 4096;
constexpr std::string_view kBackendName = "/memfd:memory-backend-memfd";

struct Mapping {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  bool shared = false;
};

// "7f00-7f80 rw-s 00000000 00:01 1042  /memfd:memory-backend-memfd (deleted)", by inode. QEMU maps
// a backend once; pieces with different protection lie side by side.
Result<std::map<std::uint64_t, Mapping>> backend_mappings(pid_t pid) {
  FT_ASSIGN(const std::string maps,
            os::read_file(fmt::format("/proc/{}/maps", pid), kProcBytesMax));
  std::map<std::uint64_t, Mapping> found;
  std::istringstream lines(maps);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(kBackendName) == std::string::npos) continue;
    std::istringstream words(line);
    std::string range, permissions, offset, device;
    std::uint64_t inode = 0;
    words >> range >> permissions >> offset >> device >> inode;
    const std::size_t dash = range.find('-');
    if (dash == std::string::npos || permissions.size() < 4) continue;
    const std::uint64_t begin = std::strtoull(range.c_str(), nullptr, 16);
    const std::uint64_t end = std::strtoull(range.c_str() + dash + 1, nullptr, 16);
    Mapping& mapping = found[inode];
    if (mapping.bytes == 0) mapping.address = begin - std::strtoull(offset.c_str(), nullptr, 16);
    mapping.bytes = end - mapping.address;
    mapping.shared = permissions[3] == 's';
  }
  return found;
}

std::string fd_path(pid_t pid, int fd) { return fmt::format("/proc/{}/fd/{}", pid, fd); }

Result<std::vector<int>> backend_descriptors(pid_t pid) {
  std::error_code error;
  std::vector<int> numbers;
  for (std::filesystem::directory_iterator entry(fmt::format("/proc/{}/fd", pid), error), end;
       !error && entry != end; entry.increment(error)) {
    std::error_code gone;  // A descriptor may be closed while we look.
    const std::string target = std::filesystem::read_symlink(entry->path(), gone).string();
    if (!gone && target.starts_with(kBackendName))
      numbers.push_back(std::atoi(entry->path().filename().c_str()));
  }
  if (error)
    return failure(os::errno_status(fmt::format("list the descriptors of process {} (libft must be "
                                                "the same user as QEMU, or root)",
                                                pid),
                                    error.value()));
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace

Result<std::vector<MemoryBackend>> find_memory(pid_t pid) {
  FT_ASSIGN(auto mappings, backend_mappings(pid));
  FT_ASSIGN(const std::vector<int> descriptors, backend_descriptors(pid));
  std::vector<MemoryBackend> backends;
  for (const int fd : descriptors) {
    struct stat about {};
    if (::stat(fd_path(pid, fd).c_str(), &about) != 0) continue;
    const auto mapping = mappings.find(about.st_ino);
    if (mapping == mappings.end()) continue;  // Opened twice, or not mapped.
    backends.push_back(
        {fd, mapping->second.address, mapping->second.bytes, mapping->second.shared});
    mappings.erase(mapping);
  }
  return backends;
}

Result<SharedMemory> SharedMemory::map(pid_t pid, const std::vector<MemoryBackend>& backends) {
  SharedMemory memory;
  PageNo next{0};
  for (const MemoryBackend& backend : backends) {
    const os::ScopedFd fd(::open(fd_path(pid, backend.fd).c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return failure(os::errno_status("open the guest's memory"));
    void* mapped = ::mmap(nullptr, backend.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (mapped == MAP_FAILED) return failure(os::errno_status("map the guest's memory"));
    memory.tracked_.push_back(
        {backend.address, next, {static_cast<std::byte*>(mapped), backend.bytes}});
    next.value += backend.bytes / kPageBytes;
  }
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : tracked_(std::exchange(other.tracked_, {})) {}

SharedMemory::~SharedMemory() {
  for (const TrackedMemory& piece : tracked_) ::munmap(piece.bytes.data(), piece.bytes.size());
}

std::vector<MemoryRegion> SharedMemory::regions() const {
  std::vector<MemoryRegion> regions;
  for (const TrackedMemory& piece : tracked_)
    regions.push_back(
        {regions.empty() ? "ram" : fmt::format("ram{}", regions.size()), piece.first, piece.bytes});
  return regions;
}

namespace {

// None has who has ended, and for a moment who was just spawned: exec has given it new memory, and
// has not written there yet. (proc(5); bprm_execve in Linux's fs/exec.c.)
Result<std::string> command_line_text(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/cmdline", pid);
  for (int look = 0;; ++look) {
    FT_ASSIGN(std::string text, os::read_file(path, kProcBytesMax));
    if (!text.empty()) return text;
    if (look == 20) return failure(Code::guest_gone, fmt::format("process {} has ended", pid));
    std::this_thread::sleep_for(Millis{5});
  }
}

}  // namespace

Result<std::vector<std::string>> command_line_of(pid_t pid) {
  FT_ASSIGN(const std::string text, command_line_text(pid));
  std::vector<std::string> arguments;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\0', begin), text.size());
    arguments.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return arguments;
}

}  // namespace libft::qemu
