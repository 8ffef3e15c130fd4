// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/thread.h"

#include <csignal>
#include <cstdint>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace libft::os {

std::jthread start_thread(std::string name, std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // The new thread inherits the mask.
  std::jthread thread([name = std::move(name), body = std::move(body)] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    body();
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

namespace {

// What <linux/sched/types.h> calls sched_attr, in its first version.
struct SchedulingAttributes {
  std::uint32_t size, policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
};

// From 6.12 on the kernel grants short turns, and with them early ones, to whoever asks for them
// (EEVDF): no privilege is needed. Older kernels ignore the request.
void ask_for_short_turns() {
  constexpr std::uint64_t kTurnNs = 100'000;  // The least that the kernel takes.
  SchedulingAttributes attributes{};
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
  attributes.size = sizeof attributes;
  attributes.runtime = kTurnNs;
  ::syscall(SYS_sched_setattr, 0, &attributes, 0);
}

}  // namespace

void prefer_this_thread() {
  sched_param param{};
  param.sched_priority = 1;
  if (pthread_setschedparam(pthread_self(), SCHED_RR, &param) == 0) return;
  const auto tid = static_cast<id_t>(::syscall(SYS_gettid));
  ::setpriority(PRIO_PROCESS, tid, -10);  // Refused without the privilege: then as it is.
  ask_for_short_turns();
}

}  // namespace libft::os
