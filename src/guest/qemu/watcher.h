// SPDX-License-Identifier: LGPL-2.1-or-later
// A Watcher reads a monitor's events while nobody awaits an answer there, notices the end of the
// process, and delivers the guest's life to the session. It owns one thread.
// Any thread may call it.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "guest/qemu/life.h"
#include "qemu/qmp.h"
#include "os/event_fd.h"

namespace libft::qemu {

class Watcher {
 public:
  // All three outlive it.
  Watcher(Qmp& qmp, Life& life, int pidfd) : qmp_(qmp), life_(life), pidfd_(pidfd) {}
  ~Watcher() { stop(); }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  Status start();
  void stop();  // Idempotent.

  // The sink gets what happened before it was set, too.
  void set_sink(std::function<void(GuestEvent)> sink);
  // Looks for events that another thread has read.
  void wake() const;

 private:
  void run();
  void deliver();

  Qmp& qmp_;
  Life& life_;
  const int pidfd_;
  std::optional<os::EventFd> wake_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::function<void(GuestEvent)> sink_;
  std::jthread thread_;
};

}  // namespace libft::qemu
