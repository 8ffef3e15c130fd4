// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/log_shelf.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace libft::replay {
namespace {

// A primary gives its backup up long before (SessionOptions::log_bytes_max).
constexpr std::size_t kBytesMax = 512u << 20;
constexpr std::size_t kLogsMax = 1u << 20;

}  // namespace

Status LogShelf::keep(wire::LogEpoch log) {
  if (bytes_ + log.coded.size() > kBytesMax || logs_.size() == kLogsMax)
    return Status(Code::corrupt, fmt::format("{} logs came since the image of epoch {}, of {} MiB",
                                             logs_.size() + 1, to_string(image_),
                                             (bytes_ + log.coded.size()) >> 20));
  bytes_ += log.coded.size();
  logs_.push_back(std::move(log));
  return {};
}

std::optional<Position> LogShelf::begins_at() const {
  if (logs_.empty()) return std::nullopt;
  return logs_.front().mark.from;
}

Status LogShelf::covers(EpochId id) const {
  if (std::any_of(logs_.begin(), logs_.end(), [&](const auto& log) { return log.id == id; }))
    return {};
  return Status(Code::corrupt,
                fmt::format("an image as of epoch {}, whose log is not here", to_string(id)));
}

void LogShelf::rebase(EpochId id) {
  FT_ASSERT(covers(id).ok());
  while (image_ != id) {
    image_ = logs_.front().id;
    bytes_ -= logs_.front().coded.size();
    logs_.pop_front();
  }
}

std::deque<wire::LogEpoch> LogShelf::take() {
  bytes_ = 0;
  return std::exchange(logs_, {});
}

}  // namespace libft::replay
