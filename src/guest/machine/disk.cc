// SPDX-License-Identifier: LGPL-2.1-or-later
#include "disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "op.h"

namespace libft::machine {

namespace {

Status check_size(const std::string& file, std::uint64_t bytes) {
  if (bytes > 0 && bytes <= Disk::kBytesMax && bytes % kPageBytes == 0) return {};
  return Status(Code::invalid,
                fmt::format("{} has {} bytes, and a disk has up to {} MiB in whole pages of {}; "
                            "remedy: truncate --size=%{} {}",
                            file, bytes, Disk::kBytesMax >> 20, kPageBytes, kPageBytes, file));
}

// Two replicas on one host that wrote to one file would spoil it for both.
Result<os::ScopedFd> open_locked(const std::string& file, int flags) {
  os::ScopedFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | flags, 0600));
  if (!fd.valid()) return failure(os::errno_status("open the disk " + file));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return failure(os::errno_status("lock the disk " + file));
  return failure(Code::refused, file +
                                    " is another guest's disk; remedy: each replica needs a file "
                                    "of its own, which the standby's --disk names");
}

Result<std::uint64_t> size_of(int fd, const std::string& file) {
  struct stat found {};
  if (::fstat(fd, &found) != 0) return failure(os::errno_status("look at the disk " + file));
  return static_cast<std::uint64_t>(found.st_size);
}

}  // namespace

Result<std::shared_ptr<Disk>> Disk::open(const std::string& file) {
  FT_ASSIGN(os::ScopedFd fd, open_locked(file, 0));
  FT_ASSIGN(const std::uint64_t bytes, size_of(fd.get(), file));
  return map(std::move(fd), bytes, file);
}

Result<std::shared_ptr<Disk>> Disk::open_or_make(const std::string& file, std::uint64_t bytes) {
  FT_ASSIGN(os::ScopedFd fd, open_locked(file, O_CREAT));
  FT_ASSIGN(const std::uint64_t found, size_of(fd.get(), file));
  if (found != 0 && found != bytes)
    return failure(Code::refused,
                   fmt::format("{} has {} bytes and the primary's disk {}; remedy: remove it, or "
                               "name another file with --disk",
                               file, found, bytes));
  return map(std::move(fd), bytes, file);
}

Result<std::shared_ptr<Disk>> Disk::in_memory(std::uint64_t bytes) {
  return map({}, bytes, "a disk in memory");
}

// All blocks at once: a store into a mapping has nobody to tell that the file system is full.
Result<std::shared_ptr<Disk>> Disk::map(os::ScopedFd file, std::uint64_t bytes,
                                        const std::string& name) {
  FT_TRY(check_size(name, bytes));
  if (file.valid()) {
    if (const int error = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); error != 0)
      return failure(os::errno_status("make room for the disk " + name, error));
  }
  const int flags = file.valid() ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, file.valid() ? file.get() : -1, 0);
  if (mapped == MAP_FAILED) return failure(os::errno_status("map the disk " + name));
  return std::shared_ptr<Disk>(new Disk(std::move(file), {static_cast<std::byte*>(mapped), bytes}));
}

Disk::~Disk() { ::munmap(bytes_.data(), bytes_.size()); }

}  // namespace libft::machine
