// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/poll.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>

namespace libft::os {
namespace {

timespec timespec_of(Nanos duration) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return timespec{static_cast<time_t>(seconds.count()),
                  static_cast<long>((duration - seconds).count())};
}

}  // namespace

Result<Woke> wait_ready(int fd, short events, int wake_fd, Nanos timeout) {
  using Steady = std::chrono::steady_clock;
  const auto end = Steady::now() + timeout;
  for (;;) {
    pollfd fds[2] = {{fd, events, 0}, {wake_fd, POLLIN, 0}};
    timespec left = timespec_of(std::max(Nanos{end - Steady::now()}, Nanos{0}));
    const int ready = ::ppoll(fds, 2, timeout < Nanos{0} ? nullptr : &left, nullptr);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return failure(errno_status("poll"));
    if (ready == 0) return Woke::deadline;
    return fds[1].revents != 0 ? Woke::called : Woke::ready;
  }
}

}  // namespace libft::os
