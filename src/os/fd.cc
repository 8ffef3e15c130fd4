// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/fd.h"

#include <cerrno>
#include <fmt/format.h>
#include <system_error>
#include <unistd.h>

namespace libft::os {
namespace {

Code code_of(int error) {
  switch (error) {
    case ENOENT: case ESRCH: case ENODEV: case ENXIO: return Code::not_found;
    case EADDRINUSE: case EBUSY: return Code::busy;
    case EPIPE: case ECONNRESET: case ECONNREFUSED: case ENOTCONN: case EHOSTUNREACH:
    case ENETUNREACH: return Code::peer_lost;
    case ETIMEDOUT: case EAGAIN: return Code::timeout;
    case ENOMEM: case ENOSPC: case EMFILE: case ENFILE: case EDQUOT: return Code::exhausted;
    case EACCES: case EPERM: return Code::refused;
    case ENOSYS: case EOPNOTSUPP: return Code::unsupported;
    case EINVAL: return Code::invalid;
    default: return Code::io;
  }
}

}  // namespace

void ScopedFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Status errno_status(std::string_view doing, int error) {
  const bool full = error == ENOSPC || error == EDQUOT;  // The same remedy, whatever was written.
  return Status(code_of(error), fmt::format("{}: {}{}", doing,
                                            std::generic_category().message(error),
                                            full ? " (free space there)" : ""));
}

Status errno_status(std::string_view doing) { return errno_status(doing, errno); }

}  // namespace libft::os
