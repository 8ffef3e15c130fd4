// SPDX-License-Identifier: LGPL-2.1-or-later
// The last events of a process's guests, for `ftctl events`: whoever follows reads from where it
// left off, and is told when it was too slow. Any thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "libft/types.h"

namespace libft::ftctl {

class EventBook {
 public:
  using Json = nlohmann::json;
  static constexpr std::size_t kEventsMax = 4096;

  void add(Json event);
  // The book of a process that went before; `first` is the number of its first event here.
  void restore(std::uint64_t first, std::vector<Json> events);

  struct Page {
    std::vector<Json> events;
    std::uint64_t next = 0;    // Where to go on.
    std::uint64_t missed = 0;  // So many were gone already.
    bool closed = false;
  };
  // What there is from number `from` on; waits for something, at most so long.
  Page read(std::uint64_t from, Nanos patience);
  void close();  // Ends all waiting.

 private:
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<Json> events_;
  std::uint64_t first_ = 0;  // Number of events_.front().
  bool closed_ = false;
};

}  // namespace libft::ftctl
