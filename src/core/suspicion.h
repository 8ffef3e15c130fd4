// SPDX-License-Identifier: LGPL-2.1-or-later
// Suspicion is the arithmetic of a detector: heartbeats heard and moments passed in, events out.
// It knows one or more paths to one peer, and it knows when its own host did not let it listen:
// silence that nobody listened to says nothing about the peer.
// Pure: no clock, no I/O, no lock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "libft/detector.h"

namespace libft::core {

// Who is watched. Where both live and only what is between them is gone, the primary is to be the
// first to ask the arbiter: it loses patience with its backup earlier than the backup with it.
enum class Watched { primary, backup };

class Suspicion {
 public:
  // `path_names` are for the events' texts; at least one.
  Suspicion(DetectorOptions options, std::vector<std::string> path_names, Watched watched);

  // Begins to count. A path that is never heard is silent from `now` plus one second on.
  void start(Time now);

  // One more path, found out later: silent, too, from `now` plus one second on.
  void add_path(std::string name, Time now);

  // A genuine heartbeat arrived on `path`, with the count of the peer's session in it.
  std::vector<DetectorEvent> heard(std::size_t path, Time now, std::uint64_t progress);

  // The caller had asked to run at `planned` and runs at `now`. What is between them is taken out
  // of every silence: a host that was suspended, or so busy that nobody received, is no evidence
  // against the peer. Call it before the datagrams that waited meanwhile are passed to heard().
  void slept_over(Time planned, Time now);

  // What the silence up to `now` means.
  std::vector<DetectorEvent> check(Time now);

  // When check() can next have something to say; far in the future when all is down already.
  Time next_check() const;

  bool suspected() const { return suspected_; }

 private:
  struct Path {
    std::string name;
    bool heard = false;  // Ever.
    bool up = false;
    bool told_down = false;
    Time last;  // Last heartbeat, moved forward by our own absences.
  };

  Time silent_at(const Path& path) const { return path.last + limit_; }
  bool all_silent() const;
  void note_progress(Time now, std::uint64_t progress, std::vector<DetectorEvent>& events);
  DetectorEvent event(DetectorEvent::Kind kind, Time at, Nanos silence, std::string detail,
                      std::size_t path = 0) const;

  DetectorOptions options_;
  Nanos limit_;
  Nanos head_start_;
  std::vector<Path> paths_;
  bool started_ = false;
  bool suspected_ = false;
  bool alive_told_ = false;
  bool progress_known_ = false;
  std::uint64_t progress_ = 0;
  Time progress_at_;  // When the count last changed, moved forward by our own absences.
};

// Silence for so long makes a path silent: so many intervals as heartbeats may be missed, and of
// a primary half an interval more, its head start at the arbiter.
Nanos silence_limit(const DetectorOptions& options, Watched watched);

}  // namespace libft::core
