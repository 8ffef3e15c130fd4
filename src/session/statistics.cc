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

Percentiles Series::percentiles() {
  if (samples_.empty()) return {};
  auto from = samples_.begin();
  const auto at = [&](double share) {  // Nearest rank; what is before it is smaller from then on.
    const auto rank = static_cast<std::size_t>(share * static_cast<double>(samples_.size()));
    const auto place =
        samples_.begin() + static_cast<std::ptrdiff_t>(std::min(rank, samples_.size() - 1));
    std::nth_element(from, place, samples_.end());
    from = place;
    return *place;
  };
  const double p50 = at(0.50), p99 = at(0.99);
  return {p50, p99, *std::max_element(from, samples_.end())};
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
  series_.handshake.add(to_ms(t.handshake));
  series_.pause.add(to_ms(t.pause));
  series_.capture.add(to_ms(t.capture));
  series_.seal.add(to_ms(t.seal));
  series_.resume.add(to_ms(t.resume));
  series_.stopped.add(to_ms(t.stopped()));
  series_.replicate.add(to_ms(t.replicate));
  series_.acknowledge.add(to_ms(t.acknowledge));
  series_.release.add(to_ms(t.release));
  series_.held.add(to_ms(record.held));
  series_.pages.add(static_cast<double>(record.pages));
  if (record.interval > Nanos{0}) series_.interval.add(to_ms(record.interval));
}

void Statistics::add_reload(Nanos took) {
  const std::scoped_lock lock(mutex_);
  series_.reload.add(to_ms(took));
}

SessionStatus Statistics::snapshot() const {
  SessionStatus status;
  AllSeries series;
  {
    const std::scoped_lock lock(mutex_);
    status = status_;
    series = series_;
  }
  status.handshake_ms = series.handshake.percentiles();
  status.pause_ms = series.pause.percentiles();
  status.capture_ms = series.capture.percentiles();
  status.seal_ms = series.seal.percentiles();
  status.resume_ms = series.resume.percentiles();
  status.stopped_ms = series.stopped.percentiles();
  status.replicate_ms = series.replicate.percentiles();
  status.acknowledge_ms = series.acknowledge.percentiles();
  status.release_ms = series.release.percentiles();
  status.output_held_ms = series.held.percentiles();
  status.dirty_pages = series.pages.percentiles();
  status.interval_ms = series.interval.percentiles();
  status.compare.reload_ms = series.reload.percentiles();
  return status;
}

}  // namespace libft::session
