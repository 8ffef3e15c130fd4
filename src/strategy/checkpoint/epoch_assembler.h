// SPDX-License-Identifier: LGPL-2.1-or-later
// The EpochAssembler is the backup's side of the encoder: it decodes frames into reserved memory,
// verifies them, and says when an epoch is complete; apply() then is a copy that cannot fail.
// One thread. A peer's bytes never reach an assertion: whatever is wrong is Code::corrupt, nothing
// of that epoch is applied, and the connection is to be closed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "libft/guest.h"
#include "libft/staging_arena.h"
#include "wire/frame.h"

namespace libft::checkpoint {

struct CompleteEpoch {
  EpochId id;
  bool first = false, guest_ended = false, guest_paused = false;
  bool rebase = false;  // For the image alone: the epoch came, or comes, as a log.
  bool run = false;     // The guest is to run from it here.
};

class EpochAssembler {
 public:
  // `info.memory` is the standby guest's own memory, written by sync pages and by apply().
  EpochAssembler(const GuestId& guest, const GuestInfo& info, StagingArena& arena);
  ~EpochAssembler();

  // The image starts anew / the image at `base` (complete and applied) is kept and built upon.
  void reset();
  // The image, as it is, lies in `info.memory` from now on. What is half here is abandoned.
  void move_to(const GuestInfo& info);
  // Abandons an epoch that is only half here, as after a lost connection. Complete ones stay.
  void drop_partial();

  // Takes a bulk frame. When it was the end of an epoch and everything is there and verified, the
  // answer names it; it must then be applied before the next epoch's pages can be decoded.
  Result<std::optional<CompleteEpoch>> on_frame(const wire::Frame& frame);

  // Where the complete epoch will be copied to, as it is before. REQUIRES: on_frame named it.
  void each_page(const std::function<void(std::span<const std::byte>)>& visit) const;
  // The pages that it may change. REQUIRES: on_frame named it.
  const PageSet& pages() const;
  // Copies the complete epoch into the guest's memory. REQUIRES: on_frame named it.
  void apply();

  // The guest's memory came to epoch `id` by itself: that is the image now. REQUIRES: a complete
  // one was applied before.
  void adopt(EpochId id, std::vector<std::byte> state);

  // The guest's memory holds the image of epoch `id`, which another assembler has applied.
  void take_over(EpochId id, std::vector<std::byte> state);

  EpochId newest_applied() const;
  bool partial() const;                      // An epoch is half here.
  std::span<const std::byte> state() const;  // Device state of the newest applied epoch.
  std::optional<std::vector<std::byte>> take_probe_state();  // Once per probe_state received.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace libft::checkpoint
