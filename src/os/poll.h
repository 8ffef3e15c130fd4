// SPDX-License-Identifier: LGPL-2.1-or-later
// Waiting for one descriptor, with a deadline and a way to be called off. Any thread.
#pragma once

#include "libft/types.h"
#include "os/fd.h"

namespace libft::os {

enum class Woke {
  ready,     // The descriptor has one of the events, or an error that the next call will tell.
  called,    // `wake_fd` became readable.
  deadline,  // Neither, in time.
};

constexpr Nanos kForever{-1};

// `events` as for poll(); wake_fd may be -1. When both are ready, `called` is the answer.
Result<Woke> wait_ready(int fd, short events, int wake_fd, Nanos timeout);

}  // namespace libft::os
