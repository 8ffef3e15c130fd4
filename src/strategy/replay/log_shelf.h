// SPDX-License-Identifier: LGPL-2.1-or-later
// The LogShelf is where a backup that does not execute keeps the logs since its image, until a
// newer image makes the older of them needless, or the backup takes over and executes them. One
// thread.
#pragma once

#include <deque>
#include <optional>

#include "wire/log.h"

namespace libft::replay {

class LogShelf {
 public:
  // The image is the checkpoint `image`; nothing came since.
  explicit LogShelf(EpochId image) : image_(image) {}

  EpochId image() const { return image_; }
  std::optional<Position> begins_at() const;  // Where the image must be; nothing: nothing came.

  // The log of the epoch after the newest one. corrupt: more than any primary leaves unbased.
  Status keep(wire::LogEpoch log);

  // Whether the image of `id` may take this one's place. corrupt: not an epoch whose log is here.
  Status covers(EpochId id) const;
  // It did: what led there is dropped. REQUIRES: covers(id).
  void rebase(EpochId id);

  // What leads from the image to the newest epoch, in order. Nothing is left here.
  std::deque<wire::LogEpoch> take();

 private:
  EpochId image_;
  std::deque<wire::LogEpoch> logs_;
  std::size_t bytes_ = 0;
};

}  // namespace libft::replay
