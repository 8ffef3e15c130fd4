// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/qemu/watcher.h"

#include <poll.h>

#include "os/thread.h"

namespace libft::qemu {

Status Watcher::start() {
  FT_ASSIGN(os::EventFd wake, os::EventFd::create());
  wake_.emplace(std::move(wake));
  thread_ = os::start_thread("ft-qemu", [this] { run(); });
  return {};
}

void Watcher::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  wake();
  thread_.join();
}

void Watcher::set_sink(std::function<void(GuestEvent)> sink) {
  {
    const std::scoped_lock lock(mutex_);
    sink_ = std::move(sink);
  }
  wake();
}

void Watcher::wake() const {
  if (wake_) wake_->signal();
}

// The monitor and the process drop out of the poll once they have ended: both stay readable then.
void Watcher::run() {
  pollfd watched[] = {{wake_->fd(), POLLIN, 0}, {qmp_.fd(), POLLIN, 0}, {pidfd_, POLLIN, 0}};
  while (!stopping_) {
    if (::poll(watched, 3, -1) < 0) continue;
    if (watched[0].revents != 0) (void)wake_->drain();
    if (watched[1].revents != 0) {
      qmp_.drain();
      if (qmp_.lost()) watched[1].fd = -1;
    }
    if (watched[2].revents != 0) {
      if (!qmp_.lost()) qmp_.drain();  // Its last event says why.
      life_.on_process_end();
      watched[2].fd = -1;
    }
    deliver();
  }
}

void Watcher::deliver() {
  const std::scoped_lock lock(mutex_);
  if (!sink_) return;
  for (GuestEvent& event : life_.take_events()) sink_(std::move(event));
}

}  // namespace libft::qemu
