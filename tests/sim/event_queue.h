// SPDX-License-Identifier: LGPL-2.1-or-later
// The EventQueue is the simulation's time: what happens next is the earliest event, and of two at
// the same moment the one that was asked for first. Nothing in the simulation waits for real time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "libft/clock.h"

namespace libft::sim {

class EventQueue final : public Clock {
 public:
  using Event = std::function<void()>;

  Time now() const override { return now_; }
  std::size_t size() const { return heap_.size(); }

  void at(Time when, Event event) {
    heap_.push_back({std::max(when, now_), sequence_++, std::move(event)});
    std::push_heap(heap_.begin(), heap_.end(), Later{});
  }
  void in(Nanos delay, Event event) { at(now_ + delay, std::move(event)); }

  // Runs the earliest event. False: there is none, or it lies beyond `end`.
  bool step(Time end) {
    if (heap_.empty() || heap_.front().when > end) return false;
    std::pop_heap(heap_.begin(), heap_.end(), Later{});
    Entry entry = std::move(heap_.back());
    heap_.pop_back();
    now_ = entry.when;
    entry.event();
    return true;
  }

 private:
  struct Entry {
    Time when;
    std::uint64_t sequence;
    Event event;
  };
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return std::pair(a.when, a.sequence) > std::pair(b.when, b.sequence);
    }
  };

  Time now_;
  std::uint64_t sequence_ = 0;
  std::vector<Entry> heap_;
};

}  // namespace libft::sim
