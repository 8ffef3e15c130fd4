// SPDX-License-Identifier: LGPL-2.1-or-later
#include "event_book.h"

#include <algorithm>

namespace libft::ftctl {

void EventBook::add(Json event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    if (events_.size() > kEventsMax) {
      events_.pop_front();
      ++first_;
    }
  }
  more_.notify_all();
}

void EventBook::restore(std::uint64_t first, std::vector<Json> events) {
  const std::lock_guard lock(mutex_);
  first_ = first;
  events_.assign(events.begin(), events.end());
}

EventBook::Page EventBook::read(std::uint64_t from, Nanos patience) {
  std::unique_lock lock(mutex_);
  more_.wait_for(lock, patience, [&] { return closed_ || first_ + events_.size() > from; });
  Page page;
  page.closed = closed_;
  const std::uint64_t begin = std::max(from, first_);
  page.missed = begin - from;
  page.next = std::max(from, first_ + events_.size());
  for (std::uint64_t i = begin; i < first_ + events_.size(); ++i) {
    page.events.push_back(events_[static_cast<std::size_t>(i - first_)]);
  }
  return page;
}

void EventBook::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  more_.notify_all();
}

}  // namespace libft::ftctl
