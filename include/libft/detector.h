// SPDX-License-Identifier: LGPL-2.1-or-later
// A Detector suspects that the peer is gone. It never knows: only the arbiter decides.
// Its own thread sends and receives heartbeats; the sink is called from that thread and returns
// quickly. All other calls come from the session's thread.
#pragma once

#include <functional>
#include <string>

#include "libft/status.h"
#include "libft/types.h"

namespace libft {

struct DetectorOptions {
  Nanos interval = Millis{50};      // Between two heartbeats.
  std::uint32_t missed_max = 3;     // So many missed in a row, on every path: suspected.
  Nanos stuck_after = Millis{5000}; // Heart beats but the peer's session stands still: suspected.
};

struct DetectorEvent {
  enum class Kind {
    alive,      // First heartbeat after start or after a suspicion.
    // Nothing heard on any path for interval * missed_max, on a backup for as long a head start
    // more as its primary is to have at the arbiter; or the peer is stuck.
    suspected,
    path_down,  // One of two paths is silent; the other still beats.
    path_up,
  };
  Kind kind;
  Time at;             // When the silence became long enough.
  Nanos silence{0};    // How long nothing was heard.
  std::string detail;  // Which path; why.
  std::size_t path = 0;  // Of path_down and path_up: its index, in the order of their addresses.
  Nanos head_start{0};  // Of suspected, on a backup: how much earlier its primary would suspect it.
};

class Detector {
 public:
  virtual ~Detector() = default;

  // Begins to watch the peer. Silence counts from the first heartbeat heard, or from `start` plus
  // one second if there is none.
  virtual Status start(std::function<void(DetectorEvent)> sink) = 0;
  virtual void stop() = 0;

  // The session calls this whenever its thread gets round to it; heartbeats carry the count, so
  // that the peer sees a session that stands still. Lock-free, any thread.
  virtual void progress() = 0;
};

}  // namespace libft
