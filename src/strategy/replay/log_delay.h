// SPDX-License-Identifier: LGPL-2.1-or-later
// The LogDelay is where a backup that executes some time late on purpose keeps the logs until then,
// and where it finds out how far it is behind what it chose. Pure; one thread.
#pragma once

#include <deque>
#include <optional>

#include "wire/log.h"

namespace libft::replay {

class LogDelay {
 public:
  // Beyond `bytes_max` the oldest logs are due before their time.
  LogDelay(Nanos delay, std::size_t bytes_max) : delay_(delay), bytes_max_(bytes_max) {}

  void keep(Time now, wire::LogEpoch log);  // The epoch after the newest one.
  bool has_room() const { return bytes_ <= bytes_max_; }
  std::optional<Time> due_at() const;  // The oldest that was not taken; nothing: all were.
  // The oldest, if it is to be executed now.
  std::optional<wire::LogEpoch> take_due(Time now);
  // All that is left: a take-over waits for no time to pass.
  std::deque<wire::LogEpoch> take_all();

  void executed(EpochId id);
  // The newest epoch that would have been executed by now, were it not for the delay: a backup that
  // is on time has caught up with everything. REQUIRES: something was kept.
  EpochId caught_up() const;
  // How long ago the oldest came that was not executed.
  Nanos behind(Time now) const;

 private:
  struct Came {
    EpochId id;
    Time at;
  };

  Nanos delay_;
  std::size_t bytes_max_, bytes_ = 0;
  EpochId newest_;
  std::deque<Came> unexecuted_;  // Of which the last are here:
  std::deque<wire::LogEpoch> kept_;
};

}  // namespace libft::replay
