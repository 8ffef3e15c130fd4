// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/trial.h"

#include "os/thread.h"

namespace libft::session {

Trial::Trial(Guest& guest, Sinks sinks) : guest_(guest), sinks_(std::move(sinks)) {
  thread_ = os::start_thread("ft-trial", [this] { run(); });
}

Trial::~Trial() {
  cancel("the session gives it up");
  if (thread_.joinable()) thread_.join();
}

void Trial::run() {
  Status status = guest_.trial_run(*this);
  const Status spoilt = let_go();  // A driver that failed may still hold it.
  sinks_.done(status.ok() ? spoilt : status);
}

void Trial::grant(std::span<const std::byte> state) {
  {
    const std::scoped_lock lock(mutex_);
    state_.assign(state.begin(), state.end());
    granted_ = true;
  }
  changed_.notify_all();
}

void Trial::cancel(const std::string& why) {
  {
    const std::scoped_lock lock(mutex_);
    if (cancelled_.ok()) cancelled_ = Status(Code::cancelled, "the trial is over: " + why);
  }
  changed_.notify_all();
}

Result<std::span<const std::byte>> Trial::hold() {
  sinks_.wanted();
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return granted_ || !cancelled_.ok(); });
  if (!cancelled_.ok()) return failure(cancelled_);
  return std::span<const std::byte>(state_);
}

Status Trial::let_go() {
  {
    const std::scoped_lock lock(mutex_);
    if (!granted_) return cancelled_;
    granted_ = false;
    if (!cancelled_.ok()) return cancelled_;
  }
  sinks_.over();
  return {};
}

}  // namespace libft::session
