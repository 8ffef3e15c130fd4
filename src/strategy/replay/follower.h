// SPDX-License-Identifier: LGPL-2.1-or-later
// The Follower is the backup's half of replay: it executes what the log says, in the guest that
// waits there, and compares states where the log has a hash. What the guest sends meanwhile was, or
// will be, sent by the primary: it is kept until the primary is known to have let it out, because
// whoever takes over sends the rest again.
// One thread at a time; interrupt() any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "libft/deterministic_guest.h"
#include "wire/log.h"

namespace libft::replay {

class Follower {
 public:
  // `guest` is loaded with the checkpoint that the log goes on from, and stands still.
  // `interrupted`: another one than interrupt() sets.
  explicit Follower(DeterministicGuest& guest, const std::atomic<bool>* interrupted = nullptr);
  ~Follower();
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  // Executes the epoch up to its mark. corrupt: this execution is not the primary's; the text says
  // between which positions they came apart. cancelled: interrupted.
  Status follow(const wire::LogEpoch& epoch);
  void interrupt() { told_to_stop_ = true; }
  // Where the last epoch that it was told to follow ended here, equal or not; nothing: it did not
  // get there.
  const std::optional<Mark>& came_to() const { return came_to_; }

  // From here on the guest speaks for itself. What may not have left the primary is sent first.
  std::uint64_t go_live();

 private:
  struct Said {
    EpochId epoch;
    std::vector<std::byte> frame;
  };
  Status run_until(Position until);
  Status compare(const wire::LogEpoch& epoch);
  Status apart(const wire::LogEpoch& epoch, const char* what, std::uint64_t here,
               std::uint64_t there) const;
  void heard(const GuestOutput& output);

  DeterministicGuest& guest_;
  std::atomic<bool> told_to_stop_{false};
  const std::atomic<bool>& interrupted_;
  EpochId executing_;
  std::optional<Mark> came_to_;
  Position here_, equal_;  // Where it is; where both were last known to be equal.
  std::deque<Said> unreleased_;
  std::size_t unreleased_bytes_ = 0;
};

}  // namespace libft::replay
