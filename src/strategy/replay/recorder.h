// SPDX-License-Identifier: LGPL-2.1-or-later
// The Recorder is the primary's half of replay: it keeps what was not determined in a guest's
// execution, cuts that into epochs, and has them until the backup acknowledged them, so that a
// backup that lost its connection gets again what it lacks. (Dunlap et al., "ReVirt", OSDI 2002;
// Scales et al., "The Design of a Practical System for Fault-Tolerant Virtual Machines", 2010.)
//
// An input is coded where it happens, on the guest's own thread, into a buffer that is swapped at a
// cut. Everything else is one thread's.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "libft/deterministic_guest.h"
#include "wire/log.h"

namespace libft::replay {

struct CutOrder {
  EpochId id;
  WithHash hash = WithHash::no;
  bool guest_ended = false, guest_paused = false;
  EpochId released;
};

class Recorder {
 public:
  // Listens to the guest from now on, until it goes. Where the log takes what comes in, once begun.
  explicit Recorder(DeterministicGuest& guest, InputAt input_at = InputAt::any_position);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // The log begins here, where the checkpoint `base` was taken. REQUIRES: the guest stands still.
  Status begin(EpochId base);
  bool begun() const { return begun_; }
  EpochId newest() const { return base_; }  // The last cut, or where it began.

  // What happened since the cut before, up to where the guest is now. All output that left the
  // guest before the call belongs to the epoch; so a gate is sealed first, then the log is cut.
  Result<std::shared_ptr<const wire::LogEpoch>> cut(const CutOrder& order);

  // The backup has everything up to `id`.
  void acknowledged(EpochId id);
  // What a backup lacks that has everything up to `newest`, in order.
  std::vector<std::shared_ptr<const wire::LogEpoch>> since(EpochId newest) const;

  // Coded inputs that are kept, in bytes: those not cut yet, and those not acknowledged.
  std::size_t bytes() const;

 private:
  void record(Position at, const GuestInput& input);

  DeterministicGuest& guest_;
  const InputAt input_at_;
  mutable std::mutex mutex_;  // What the guest's thread writes:
  std::vector<std::byte> coded_;
  std::uint64_t inputs_ = 0;
  Position newest_input_;  // Or the last cut.

  bool begun_ = false;
  Position from_;
  EpochId base_;
  std::size_t spare_ = 0;  // How large the next buffer will probably become.
  std::deque<std::shared_ptr<const wire::LogEpoch>> kept_;
};

}  // namespace libft::replay
