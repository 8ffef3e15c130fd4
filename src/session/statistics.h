// SPDX-License-Identifier: LGPL-2.1-or-later
// The figures of one session: written by its thread, read by any. One lock, held for a few stores
// and copies, because the session's thread waits for it: who asks does the sorting.
#pragma once

#include <mutex>
#include <vector>

#include "libft/session.h"
#include "strategy/checkpoint/captured_epoch.h"
#include "strategy/checkpoint/epoch_encoder.h"

namespace libft::session {

// The newest few thousand samples of one quantity.
class Series {
 public:
  void add(double value);
  Percentiles percentiles();  // Puts the samples in another order: of a copy.

 private:
  static constexpr std::size_t kSamplesMax = 4096;
  std::vector<double> samples_;
  std::size_t next_ = 0;
};

// One released epoch, as the per-epoch records (JSON lines) and the series show it.
struct EpochRecord {
  EpochId id;
  Time paused_at;
  std::uint64_t pages = 0;
  checkpoint::EncodeStatistics encoded;
  checkpoint::PhaseTimes times;
  Nanos held{0};      // From its seal to its release.
  Nanos interval{0};  // From the pause before to this one.
};
std::string to_json(const EpochRecord& record);

class Statistics {
 public:
  // Changes the status under the lock: `update(SessionStatus&)`.
  template <class Update>
  void update(Update&& change) {
    const std::scoped_lock lock(mutex_);
    change(status_);
  }
  void add(const EpochRecord& record);
  void add_reload(Nanos took);
  SessionStatus snapshot() const;

 private:
  mutable std::mutex mutex_;
  SessionStatus status_;
  struct AllSeries {
    Series handshake, pause, capture, seal, resume, replicate, acknowledge, release, stopped, held,
        pages, interval, reload;
  };
  AllSeries series_;
};

double to_ms(Nanos duration);

}  // namespace libft::session
