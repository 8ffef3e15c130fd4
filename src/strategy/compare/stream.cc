// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/stream.h"

#include <algorithm>

#include "strategy/compare/network_order.h"

namespace libft::compare {

std::uint64_t Stream::position(std::uint32_t at) const {
  return low_ + std::uint64_t(std::int64_t(ahead(at, static_cast<std::uint32_t>(low_))));
}

// Compares what is kept with the part of `bytes` that lies there.
bool Stream::agrees(std::uint64_t at, BytesView bytes) const {
  const std::uint64_t from = std::max(at, low_), to = std::min(at + bytes.size(), end());
  if (from >= to) return true;
  const auto here = bytes.subspan(from - at, to - from);
  return std::equal(here.begin(), here.end(),
                    kept_.begin() + std::ptrdiff_t(dropped_ + (from - low_)));
}

bool Stream::put(std::uint32_t at, BytesView bytes) {
  if (bytes.empty()) return true;
  const std::uint64_t from = position(at), to = from + bytes.size();
  if (!agrees(from, bytes)) return false;
  if (to <= end()) return true;
  if (from > end()) {
    later_.emplace(from, Bytes(bytes.begin(), bytes.end()));
    later_bytes_ += bytes.size() + kPieceBytes;
    return true;
  }
  const auto fresh = bytes.subspan(end() - from);
  kept_.insert(kept_.end(), fresh.begin(), fresh.end());
  return join_later();
}

bool Stream::join_later() {
  while (!later_.empty() && later_.begin()->first <= end()) {
    const auto piece = later_.extract(later_.begin());
    later_bytes_ -= piece.mapped().size() + kPieceBytes;
    if (!agrees(piece.key(), piece.mapped())) return false;
    const std::uint64_t known = std::min<std::uint64_t>(end() - piece.key(), piece.mapped().size());
    kept_.insert(kept_.end(), piece.mapped().begin() + std::ptrdiff_t(known), piece.mapped().end());
  }
  return true;
}

Stream::Match Stream::match(std::uint32_t at, BytesView bytes) const {
  if (bytes.empty()) return Match::equal;
  if (!begun_) return Match::missing;
  const std::uint64_t from = position(at);
  if (from < low_ && !settled_) return Match::unknown;
  if (!agrees(from, bytes)) return Match::differs;
  return from + bytes.size() <= end() ? Match::equal : Match::missing;
}

void Stream::trim(std::uint32_t to) {
  const std::uint64_t upto = std::min(position(to), end());
  if (!begun_ || upto <= low_) return;
  dropped_ += upto - low_;
  low_ = upto;
  settled_ = true;
  if (dropped_ < kept_.size() / 2) return;  // Moved seldom enough to cost little a byte.
  kept_.erase(kept_.begin(), kept_.begin() + std::ptrdiff_t(dropped_));
  dropped_ = 0;
}

}  // namespace libft::compare
