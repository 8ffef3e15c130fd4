// SPDX-License-Identifier: LGPL-2.1-or-later
// A LoadClient stands outside, asks the guest for one kind of thing again and again, and remembers
// when each request was due and when it was answered. Implemented by the clients of Redis, of a web
// server, and of the guest's observer; each has a thread of its own, any thread may call any
// function.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "demo/history.h"
#include "libft/types.h"

namespace libft::demo {

enum class Load {
  none,
  open,    // At a fixed rate, whether or not the answers come: latency counts from the schedule.
  closed,  // One request outstanding.
};

class LoadClient {
 public:
  virtual ~LoadClient() = default;

  virtual void offer(Load load, double per_s) = 0;
  // Offers no more and waits until all is answered, or has failed.
  virtual Status drain(Nanos patience) = 0;

  virtual std::vector<RequestSample> samples() const = 0;
  // Answered otherwise than expected, or not at all.
  virtual std::uint64_t errors() const = 0;
};

// When requests are due. A value; times are arguments.
class Schedule {
 public:
  void offer(Load load, double per_s, Time now) {
    load_ = load;
    period_ = std::chrono::duration_cast<Nanos>(std::chrono::duration<double>(1 / per_s));
    due_ = now;
  }

  // The moment that the next request is, or was, due; taken once. Nothing: none is due yet. `open`
  // requests wait for their answers. One that nobody could take in time is late, not left out.
  std::optional<Time> take(Time now, std::size_t open) {
    if (load_ == Load::closed && open == 0) return now;
    if (load_ != Load::open || due_ > now) return std::nullopt;
    const Time due = due_;
    due_ = due_ + period_;
    return due;
  }

  // How long nothing will be due, as far as the clock says it.
  Nanos wait(Time now) const {
    if (load_ != Load::open) return kLongest;
    return std::clamp(due_ - now, Nanos{0}, kLongest);
  }

  static constexpr Nanos kLongest = std::chrono::seconds{1};

 private:
  Load load_ = Load::none;
  Nanos period_{};
  Time due_;
};

}  // namespace libft::demo
