// SPDX-License-Identifier: LGPL-2.1-or-later
// An Observer stands outside and remembers each datagram that the guest let out: a counter and
// random bytes made for it. It proves or refutes output commit: one counter with two values, or a
// value that the promoted guest does not know, is an output that left before the backup held it.
// It owns a thread in the client's network namespace; any thread may call any function.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "demo/history.h"
#include "libft/types.h"
#include "os/event_fd.h"
#include "os/fd.h"

namespace libft::demo {

struct ObserverOptions {
  std::string guest = "10.77.0.10";  // Numeric IPv4.
  int netns_fd = -1;
};

// The guest's time of day beside this host's clock, read at about the same moment.
struct ClockPair {
  Time here;
  Nanos guest{};
};

class Observer {
 public:
  static Result<std::unique_ptr<Observer>> start(const ObserverOptions& options);
  ~Observer();

  // Asks the guest that runs now for each counter seen since `from`. Returns how many of them it
  // does not know, or knows differently; `asked` says how many were asked for.
  struct Verdict {
    std::uint64_t asked = 0;
    std::uint64_t unknown = 0;
  };
  Result<Verdict> ask_since(Time from, Nanos patience);

  // One beat each `period` from now on; 0: none. Of a guest in QEMU.
  Status set_beats(Nanos period, Nanos patience);
  Result<ClockPair> guest_clock(Nanos patience);
  Result<std::uint64_t> guest_retransmissions(Nanos patience);  // Of TCP, since it booted.

  std::uint64_t seen() const;
  std::uint64_t repeated() const;
  std::uint64_t contradicted() const;  // Seen with two values.

 private:
  Observer(ObserverOptions options, os::ScopedFd beats, os::ScopedFd queries, os::EventFd wake);
  void run();
  void take_beats();
  std::vector<Output> remembered_since(Time from);  // Older ones the guest has forgotten.

  const ObserverOptions options_;
  os::ScopedFd beats_;
  os::ScopedFd queries_;  // Connected to the guest; guarded by query_mutex_.
  os::EventFd wake_;
  std::mutex query_mutex_;
  mutable std::mutex mutex_;
  OutputHistory history_;
  bool stopping_ = false;
  std::jthread thread_;  // Last: joined before anything it uses goes.
};

}  // namespace libft::demo
