// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/suspicion.h"

#include <fmt/format.h>

#include <algorithm>

namespace libft::core {
namespace {

constexpr Nanos kFirstHeartbeatGrace = std::chrono::seconds{1};
constexpr Time kNever{Nanos::max()};

double milliseconds(Nanos n) { return std::chrono::duration<double, std::milli>(n).count(); }

}  // namespace

Nanos silence_limit(const DetectorOptions& options, Watched watched) {
  const Nanos head_start = watched == Watched::primary ? options.interval / 2 : Nanos{0};
  return options.interval * options.missed_max + head_start;
}

Suspicion::Suspicion(DetectorOptions options, std::vector<std::string> path_names, Watched watched)
    : options_(options),
      limit_(silence_limit(options, watched)),
      head_start_(limit_ - silence_limit(options, Watched::backup)) {
  for (auto& name : path_names) {
    Path path;
    path.name = std::move(name);
    paths_.push_back(std::move(path));
  }
}

void Suspicion::start(Time now) {
  started_ = true;
  for (auto& path : paths_) path.last = now + kFirstHeartbeatGrace;
}

void Suspicion::add_path(std::string name, Time now) {
  Path path;
  path.name = std::move(name);
  path.last = now + kFirstHeartbeatGrace;
  paths_.push_back(std::move(path));
}

DetectorEvent Suspicion::event(DetectorEvent::Kind kind, Time at, Nanos silence, std::string detail,
                               std::size_t path) const {
  return DetectorEvent{kind, at, silence, std::move(detail), path, Nanos{0}};
}

std::vector<DetectorEvent> Suspicion::heard(std::size_t index, Time now, std::uint64_t progress) {
  std::vector<DetectorEvent> events;
  if (!started_ || index >= paths_.size()) return events;
  Path& path = paths_[index];
  const bool was_up = path.up;
  path.heard = path.up = true;
  path.told_down = false;
  path.last = now;
  note_progress(now, progress, events);
  if (!was_up && paths_.size() > 1)
    events.push_back(event(DetectorEvent::Kind::path_up, now, Nanos{0}, path.name, index));
  return events;
}

// A peer that beats and does not work is as good as gone, and is treated so until its count moves.
void Suspicion::note_progress(Time now, std::uint64_t progress,
                              std::vector<DetectorEvent>& events) {
  if (!progress_known_ || progress != progress_) {
    progress_known_ = true;
    progress_ = progress;
    progress_at_ = now;
  }
  const Nanos stood = now - progress_at_;
  const bool stuck = stood >= options_.stuck_after;
  if (!stuck && (suspected_ || !alive_told_)) {
    suspected_ = false;
    alive_told_ = true;
    events.push_back(event(DetectorEvent::Kind::alive, now, Nanos{0}, "heard"));
  } else if (stuck && !suspected_) {
    suspected_ = true;
    events.push_back(event(DetectorEvent::Kind::suspected, progress_at_ + options_.stuck_after,
                           Nanos{0},
                           fmt::format("the peer's heart beats, but its session has not moved for "
                                       "{:.0f} ms",
                                       milliseconds(stood))));
  }
}

void Suspicion::slept_over(Time planned, Time now) {
  if (!started_ || now <= planned) return;
  const Nanos absence = now - planned;
  for (auto& path : paths_)
    path.last = path.last > now ? path.last + absence : std::min(path.last + absence, now);
  progress_at_ = std::min(progress_at_ + absence, now);
}

bool Suspicion::all_silent() const {
  return std::none_of(paths_.begin(), paths_.end(),
                      [](const Path& path) { return !path.told_down; });
}

std::vector<DetectorEvent> Suspicion::check(Time now) {
  std::vector<DetectorEvent> events;
  if (!started_) return events;
  for (std::size_t index = 0; index < paths_.size(); ++index) {
    Path& path = paths_[index];
    if (path.told_down || now < silent_at(path)) continue;
    path.up = false;
    path.told_down = true;
    const std::string detail =
        path.heard
            ? fmt::format("{}: silent for {:.0f} ms", path.name, milliseconds(now - path.last))
            : fmt::format("{}: nothing heard since the start", path.name);
    if (paths_.size() > 1)
      events.push_back(
          event(DetectorEvent::Kind::path_down, silent_at(path), now - path.last, detail, index));
    if (!all_silent() || suspected_) continue;
    suspected_ = true;
    events.push_back(
        event(DetectorEvent::Kind::suspected, silent_at(path), now - path.last, detail));
    events.back().head_start = head_start_;
  }
  return events;
}

Time Suspicion::next_check() const {
  Time next = kNever;
  if (!started_) return next;
  for (const auto& path : paths_)
    if (!path.told_down) next = std::min(next, silent_at(path));
  return next;
}

}  // namespace libft::core
