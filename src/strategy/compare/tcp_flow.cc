// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/tcp_flow.h"

#include <utility>

#include "strategy/compare/network_order.h"

namespace libft::compare {

bool TcpFlow::Side::begins(const TcpSegment& segment) {
  if (!segment.syn || first == segment.sequence) return false;
  first = base = segment.sequence;
  ++life;
  return true;
}

void TcpFlow::note_primary(const TcpSegment& segment) {
  if (primary_.begins(segment)) sent_ = sent_acknowledged_ = released_ = std::nullopt;
  // A reset's number may be anything that the other side would take.
  if (!segment.rst) advance(sent_, segment.sequence + segment.length());
  if (segment.acknowledged) advance(sent_acknowledged_, *segment.acknowledged);
}

void TcpFlow::on_primary(FrameNo number, const TcpSegment& segment) {
  note_primary(segment);
  Pending frame{.number = number,
                .life = primary_.life,
                .position = segment.sequence + segment.syn - primary_.base,
                .acknowledged = segment.acknowledged,
                .fin = segment.fin,
                .rst = segment.rst,
                .terms = segment.syn && primary_.life > 0 ? terms_of(segment) : Bytes{},
                .payload = {segment.payload.begin(), segment.payload.end()}};
  pending_bytes_ += frame.payload.size() + sizeof frame;
  pending_.push_back(std::move(frame));
}

bool TcpFlow::on_follower(const TcpSegment& segment) {
  if (follower_.begins(segment)) {
    stream_ = Stream(1, Stream::Before::settled);
    fin_ = acknowledged_ = std::nullopt;
    resets_ = 0;
  }
  if (segment.syn) terms_ = terms_of(segment);
  if (segment.acknowledged) advance(acknowledged_, *segment.acknowledged);
  if (segment.rst) {
    ++resets_;
    return true;
  }
  const std::uint32_t position = segment.sequence + segment.syn - follower_.base;
  if (!stream_.begun()) stream_ = Stream(position, Stream::Before::unknown);
  if (!stream_.put(position, segment.payload)) return false;
  if (!segment.fin) return true;
  const auto fin = position + std::uint32_t(segment.payload.size());
  if (fin_.value_or(fin) != fin) return false;
  fin_ = fin;
  return true;
}

void TcpFlow::on_client_acknowledged(std::uint32_t sequence) {
  if (!released_ || primary_.life != follower_.life) return;
  const std::uint32_t position = sequence - primary_.base;
  // An acknowledgement of what was never released is no client's.
  if (ahead(position, *released_) <= 0) stream_.trim(position);
}

Judgement TcpFlow::judge() const {
  const Pending& frame = pending_.front();
  if (frame.life != follower_.life)
    return frame.life > follower_.life ? Judgement::wait : Judgement::checkpoint;
  if (!frame.terms.empty() && frame.terms != terms_) return Judgement::checkpoint;
  const Judgement payload = judge_payload(frame);
  if (payload != Judgement::release) return payload;
  const Judgement fin = judge_fin(frame);
  if (fin != Judgement::release) return fin;
  if (frame.rst && resets_ == 0) return Judgement::wait;
  const bool acknowledged =
      !frame.acknowledged || (acknowledged_ && ahead(*acknowledged_, *frame.acknowledged) >= 0);
  return acknowledged ? Judgement::release : Judgement::wait;
}

Judgement TcpFlow::judge_payload(const Pending& frame) const {
  const auto end = frame.position + std::uint32_t(frame.payload.size());
  if (!frame.payload.empty() && fin_ && ahead(end, *fin_) > 0) return Judgement::checkpoint;
  switch (stream_.match(frame.position, frame.payload)) {
    case Stream::Match::equal: return Judgement::release;
    case Stream::Match::missing: return Judgement::wait;
    case Stream::Match::differs:
    case Stream::Match::unknown: break;
  }
  return Judgement::checkpoint;
}

Judgement TcpFlow::judge_fin(const Pending& frame) const {
  if (!frame.fin) return Judgement::release;
  const auto at = frame.position + std::uint32_t(frame.payload.size());
  if (fin_) return at == *fin_ ? Judgement::release : Judgement::checkpoint;
  if (stream_.settled(at)) return Judgement::release;
  return stream_.reaches_beyond(at) ? Judgement::checkpoint : Judgement::wait;
}

void TcpFlow::released() {
  const Pending& frame = pending_.front();
  if (frame.rst)
    --resets_;
  else if (frame.life == primary_.life)
    advance(released_, frame.end());
  pending_bytes_ -= frame.payload.size() + sizeof frame;
  pending_.pop_front();
}

void TcpFlow::forget() {
  pending_.clear();
  pending_bytes_ = 0;
  stream_ = {};
}

bool TcpFlow::rebase() {
  if (!sent_) return false;
  TcpFlow both;
  both.primary_ = both.follower_ = {.first = primary_.first};
  both.stream_ = Stream(*sent_, Stream::Before::settled);
  both.acknowledged_ = sent_acknowledged_;
  both.sent_ = sent_;
  both.sent_acknowledged_ = sent_acknowledged_;
  *this = std::move(both);
  return true;
}

}  // namespace libft::compare
