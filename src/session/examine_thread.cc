// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/examine_thread.h"

#include <utility>

#include "os/thread.h"
#include "strategy/replay/examine.h"

namespace libft::session {

ExamineThread::ExamineThread(std::unique_ptr<replay::Landmark> landmark, const GuestInfo& info,
                             Done done)
    : landmark_(std::move(landmark)), info_(info), done_(std::move(done)) {
  thread_ = os::start_thread("ft-examine", [this] { run(); });
}

ExamineThread::~ExamineThread() { called_off_ = true; }

void ExamineThread::run() {
  const auto found = replay::examine(*landmark_, called_off_);
  landmark_.reset();  // It has the memory of several guests.
  if (called_off_) return;
  if (!found) return done_(failure(found.error()));
  done_(replay::describe(*found, info_));
}

}  // namespace libft::session
