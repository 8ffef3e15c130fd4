// SPDX-License-Identifier: LGPL-2.1-or-later
// ScopedFd owns a file descriptor. errno becomes a Status here, once, at the system call.
#pragma once

#include <string_view>
#include <utility>

#include "libft/status.h"

namespace libft::os {

class ScopedFd {
 public:
  ScopedFd() = default;
  explicit ScopedFd(int fd) : fd_(fd) {}
  ScopedFd(ScopedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ScopedFd& operator=(ScopedFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~ScopedFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// "send: Broken pipe", with the code that fits `error` (an errno value).
Status errno_status(std::string_view doing, int error);
Status errno_status(std::string_view doing);  // The current errno.

}  // namespace libft::os
