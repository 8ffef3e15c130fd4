// SPDX-License-Identifier: LGPL-2.1-or-later
// The Mailbox is how every other thread speaks to a session's thread: closures, run there in order.
// What is posted after close() is dropped. Bulk frames are bounded by Credit, everything else is
// small and rare.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

#include "libft/types.h"

namespace libft::session {

using Work = std::function<void()>;

class Mailbox {
 public:
  void post(Work work);

  // Waits until there is work, `wait` has passed, or the mailbox is closed; then moves what there
  // is into `batch` (which is cleared first). Only the session's thread.
  void take(std::vector<Work>& batch, Nanos wait);

  void close();

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Work> waiting_;
  bool closed_ = false;
};

// A limit on bytes that are under way between two threads.
class Credit {
 public:
  explicit Credit(std::size_t bytes) : left_(static_cast<std::int64_t>(bytes)) {}

  // Waits until some credit is left, then takes `bytes` (it may go below zero: one frame is always
  // let through). False after close().
  bool take(std::size_t bytes);
  void give(std::size_t bytes);
  void close();

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  std::int64_t left_;
  bool closed_ = false;
};

}  // namespace libft::session
