// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/statistics.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace libft::session {

double to_ms(Nanos duration) { return static_cast<double>(duration.count()) / 1e6; }

void Series::add(double value) {
  if (samples_.size() < kSamplesMax) {
    samples_.push_back(value);
    return;
  }
  samples_[next_] = value;
  next_ = (next_ + 1) % kSamplesMax;
}

Percentiles Series::percentiles() const {
  if (samples_.empty()) return {};
  auto sorted = samples_;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {  // Nearest rank.
    const auto rank = static_cast<std::size_t>(share * static_cast<double>(sorted.size()));
    return sorted[std::min(rank, sorted.size() - 1)];
  };
  return {at(0.50), at(0.99), sorted.back()};
}

std::string to_json(const EpochRecord& record) {
  const auto& t = record.times;
  const nlohmann::ordered_json json = {
      {"epoch", to_string(record.id)},
      {"at_ms", to_ms(record.paused_at.since_start)},
      {"interval_ms", to_ms(record.interval)},
      {"pages", record.pages},
      {"zero", record.encoded.zero},
      {"delta", record.encoded.delta},
      {"raw", record.encoded.raw},
      {"bytes", record.encoded.bytes},
      {"handshake_ms", to_ms(t.handshake)},
      {"pause_ms", to_ms(t.pause)},
      {"capture_ms", to_ms(t.capture)},
      {"seal_ms", to_ms(t.seal)},
      {"resume_ms", to_ms(t.resume)},
      {"stopped_ms", to_ms(t.stopped())},
      {"replicate_ms", to_ms(t.replicate)},
      {"acknowledge_ms", to_ms(t.acknowledge)},
      {"release_ms", to_ms(t.release)},
      {"output_held_ms", to_ms(record.held)},
  };
  return json.dump();
}

void Statistics::add(const EpochRecord& record) {
  const std::scoped_lock lock(mutex_);
  const auto& t = record.times;
  handshake_.add(to_ms(t.handshake));
  pause_.add(to_ms(t.pause));
  capture_.add(to_ms(t.capture));
  seal_.add(to_ms(t.seal));
  resume_.add(to_ms(t.resume));
  stopped_.add(to_ms(t.stopped()));
  replicate_.add(to_ms(t.replicate));
  acknowledge_.add(to_ms(t.acknowledge));
  release_.add(to_ms(t.release));
  held_.add(to_ms(record.held));
  pages_.add(static_cast<double>(record.pages));
  if (record.interval > Nanos{0}) interval_.add(to_ms(record.interval));
}

SessionStatus Statistics::snapshot() const {
  const std::scoped_lock lock(mutex_);
  SessionStatus status = status_;
  status.handshake_ms = handshake_.percentiles();
  status.pause_ms = pause_.percentiles();
  status.capture_ms = capture_.percentiles();
  status.seal_ms = seal_.percentiles();
  status.resume_ms = resume_.percentiles();
  status.stopped_ms = stopped_.percentiles();
  status.replicate_ms = replicate_.percentiles();
  status.acknowledge_ms = acknowledge_.percentiles();
  status.release_ms = release_.percentiles();
  status.output_held_ms = held_.percentiles();
  status.dirty_pages = pages_.percentiles();
  status.interval_ms = interval_.percentiles();
  return status;
}

}  // namespace libft::session
