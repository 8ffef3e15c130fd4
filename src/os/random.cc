// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/random.h"

#include <sys/random.h>

#include <cerrno>

#include "os/fd.h"

namespace libft::os {

Status random_bytes(std::span<std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::getrandom(bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status("getrandom");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

}  // namespace libft::os
