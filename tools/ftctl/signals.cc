// SPDX-License-Identifier: LGPL-2.1-or-later
#include "signals.h"

#include <signal.h>
#include <sys/signalfd.h>

namespace libft::ftctl {

Result<Descriptor> take_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) return failure(system_error("sigmask"));
  ::signal(SIGPIPE, SIG_IGN);
  Descriptor fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return failure(system_error("signalfd"));
  return fd;
}

}  // namespace libft::ftctl
