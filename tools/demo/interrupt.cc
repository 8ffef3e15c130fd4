// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/interrupt.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "os/poll.h"
#include "os/real_clock.h"

namespace libft::demo {

Result<Interrupt> Interrupt::take() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  os::ScopedFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return failure(os::errno_status("signalfd"));
  return Interrupt(std::move(fd));
}

bool Interrupt::pending() {
  signalfd_siginfo signal{};
  if (::read(fd_.get(), &signal, sizeof signal) == sizeof signal) seen_ = true;
  return seen_;
}

Status Interrupt::wait(std::string_view what, Nanos patience, const std::function<bool()>& done) {
  const os::RealClock clock;
  const Time end = clock.now() + patience;
  while (!done()) {
    if (pending()) return Status(Code::cancelled, "interrupted");
    const Nanos left = end - clock.now();
    if (left <= Nanos{0}) {
      return Status(
          Code::timeout,
          fmt::format("waited {} s for {}",
                      std::chrono::duration_cast<std::chrono::seconds>(patience).count(), what));
    }
    if (auto woke = os::wait_ready(fd_.get(), POLLIN, -1, std::min(left, Nanos{Millis{2}}));
        !woke) {
      return woke.error();
    }
  }
  return {};
}

Status Interrupt::sleep(Nanos duration) {
  const os::RealClock clock;
  const Time end = clock.now() + duration;
  return wait("time to pass", duration + std::chrono::seconds{5},
              [&] { return clock.now() >= end; });
}

}  // namespace libft::demo
