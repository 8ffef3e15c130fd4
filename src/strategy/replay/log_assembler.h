// SPDX-License-Identifier: LGPL-2.1-or-later
// The LogAssembler puts the frames of a log together at the backup. Bytes from a peer: anything
// wrong is Code::corrupt, nothing of that epoch is used, and the connection is to be closed.
// One thread.
#pragma once

#include <optional>

#include "wire/log.h"

namespace libft::replay {

class LogAssembler {
 public:
  // The next epoch builds on `base`, complete here; its log begins at `at`.
  void begin(EpochId base, Position at);
  EpochId newest() const { return base_; }  // Whole here.
  // Abandons an epoch that is only half here, as after a lost connection.
  void drop_partial();

  // An epoch that is whole and verified, with every input readable; or nothing yet.
  Result<std::optional<wire::LogEpoch>> on_frame(const wire::Frame& frame);

 private:
  Status check(const wire::Frame& frame, const wire::LogFrame& log) const;
  Status check_whole(const wire::LogEpoch& epoch, std::uint64_t checksum) const;

  EpochId base_;
  Position at_;
  wire::LogEpoch partial_;
  std::uint64_t frames_ = 0;  // Of partial_.
};

}  // namespace libft::replay
