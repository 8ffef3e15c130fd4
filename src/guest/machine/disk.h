// SPDX-License-Identifier: LGPL-2.1-or-later
// A Disk is what a machine's writable disk consists of: a file of this host's, mapped, which nobody
// else on this host has; or bytes that belong to a copy of the machine and go with it. To a session
// it is one more region of memory: what the guest writes is replicated page by page, or written by
// both executions, and the file of a backup is overwritten by its primary's contents.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "libft/status.h"
#include "os/fd.h"

namespace libft::machine {

class Disk {
 public:
  static constexpr std::uint64_t kBytesMax = std::uint64_t{4} << 30;

  // As large as the file is. Code::refused: another process has it.
  static Result<std::shared_ptr<Disk>> open(const std::string& file);
  // The same for a backup: a file of `bytes`, which is made if there is none.
  static Result<std::shared_ptr<Disk>> open_or_make(const std::string& file, std::uint64_t bytes);
  static Result<std::shared_ptr<Disk>> in_memory(std::uint64_t bytes);
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  Disk(os::ScopedFd file, std::span<std::byte> bytes) : file_(std::move(file)), bytes_(bytes) {}
  static Result<std::shared_ptr<Disk>> map(os::ScopedFd file, std::uint64_t bytes,
                                           const std::string& name);

  os::ScopedFd file_;  // Holds the lock; none of a disk in memory.
  std::span<std::byte> bytes_;
};

}  // namespace libft::machine
