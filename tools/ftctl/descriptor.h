// SPDX-License-Identifier: LGPL-2.1-or-later
// Descriptor owns a file descriptor of ftctl's own. (ftctl uses libft as anybody would: through its
// public headers, which have none.) Errors of system calls become a Status here.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "libft/status.h"

namespace libft::ftctl {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      if (fd_ >= 0) ::close(fd_);
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

inline Status system_error(const std::string& doing) {
  return Status(Code::io, doing + ": " + std::strerror(errno));
}

}  // namespace libft::ftctl
