// SPDX-License-Identifier: LGPL-2.1-or-later
#include "sim/compare/model_tcp.h"

#include <algorithm>

namespace libft::sim {
namespace {

using namespace libft::test;

constexpr std::size_t kWindow = 20000;
constexpr Millis kRepeat{15};
// A loaded guest's clock stood still meanwhile, and the world has heard the primary's:
// milliseconds.
constexpr std::int32_t kClockLag = 1000;

std::int32_t ahead(std::uint32_t a, std::uint32_t b) { return std::int32_t(a - b); }

struct Options {
  std::uint32_t time = 0, echo = 0;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sack;
};

// As options() below lays them out.
Options read_options(const FrameBytes& bytes) {
  Options options;
  options.time = get_be(bytes, 4, 4);
  options.echo = get_be(bytes, 8, 4);
  if (bytes.size() <= 12) return options;
  for (std::size_t at = 16; at + 8 <= bytes.size(); at += 8)
    options.sack.emplace_back(get_be(bytes, at, 4), get_be(bytes, at + 4, 4));
  return options;
}

}  // namespace

ModelTcp::ModelTcp(const Peers& peers, std::uint32_t first, Random& chances)
    : end_(End::client), peers_(peers), first_(first), clock_base_(std::uint32_t(chances.next())) {}

ModelTcp::ModelTcp(const Peers& peers, const TcpFields& syn, Random& chances)
    : end_(End::server),
      peers_(peers),
      first_(std::uint32_t(chances.next())),
      peer_first_(syn.sequence),
      clock_base_(std::uint32_t(chances.next())),
      newest_echo_(read_options(syn.options).time) {}

bool ModelTcp::said(std::size_t at, const std::string& bytes) const {
  return at + bytes.size() <= std::min(sent_, out_.size()) &&
         out_.compare(at, bytes.size(), bytes) == 0;
}

void ModelTcp::on(const TcpFields& segment) {
  const Options options = read_options(segment.options);
  if (segment.flags & kSyn) {
    if (end_ == End::client && !connected_) {
      if (segment.acknowledged != first_ + 1) return wrong("a SYN that answers another");
      peer_first_ = segment.sequence;
      newest_echo_ = options.time;
      connected_ = true;
    }
    ack_due_ = connected_;
    if (!connected_) repeat_at_ = {};  // The client did not hear the answer.
    return;
  }
  if (end_ == End::client && !connected_) return;
  const std::int32_t from = ahead(segment.sequence, peer_first_ + 1);
  const auto length = std::int32_t(segment.payload.size()) + bool(segment.flags & kFin);
  const auto here = std::int32_t(in_.size()) + peer_closed();
  if (from > here + std::int32_t(2 * kWindow)) return wrong("a sequence number from nowhere");
  ack_due_ = ack_due_ || length > 0;
  if (from + length < here) return;                   // Old.
  if (ahead(options.time, newest_echo_) < 0) return;  // PAWS.
  if (connected_ && ahead(options.echo, said_time_) > kClockLag) return wrong("an echo of no call");
  if (!on_acknowledgement(segment)) return;
  on_sack(segment.options);
  if (from <= here) newest_echo_ = options.time;
  on_payload(std::size_t(std::max(from, 0)), segment);
}

bool ModelTcp::on_acknowledgement(const TcpFields& segment) {
  const std::int32_t upto = ahead(segment.acknowledged, first_ + 1);
  if (upto > std::int32_t(sent_)) {
    wrong("an acknowledgement of what was not said");
    return false;
  }
  if (upto < 0) {
    if (!connected_) wrong("an acknowledgement of another SYN");
    return connected_;
  }
  connected_ = true;
  if (std::size_t(upto) > acked_) {
    acked_ = std::size_t(upto);
    repeats_ = 0;
  }
  return true;
}

void ModelTcp::on_sack(const FrameBytes& bytes) {
  for (const auto& [left, right] : read_options(bytes).sack) {
    const auto from = ahead(left, first_ + 1), to = ahead(right, first_ + 1);
    if (from < 0 || to <= from || to > std::int32_t(sent_)) return wrong("a SACK of nothing");
    auto& end = sacked_[std::size_t(from)];
    end = std::max(end, std::size_t(to));
  }
}

void ModelTcp::on_payload(std::size_t at, const TcpFields& segment) {
  std::string bytes(reinterpret_cast<const char*>(segment.payload.data()), segment.payload.size());
  if (segment.flags & kFin) fin_at_ = at + bytes.size();
  const std::size_t known = at < in_.size() ? std::min(in_.size() - at, bytes.size()) : 0;
  if (in_.compare(std::min(at, in_.size()), known, bytes, 0, known) != 0)
    return wrong("other bytes than before");
  if (!bytes.empty() && bytes.size() > later_[at].size()) later_[at] = bytes;
  while (!later_.empty() && later_.begin()->first <= in_.size()) {
    const auto piece = later_.extract(later_.begin());
    const std::size_t skip = in_.size() - piece.key();
    if (skip < piece.mapped().size()) in_ += piece.mapped().substr(skip);
  }
}

FrameBytes ModelTcp::options() const {
  FrameBytes bytes = timestamps_option(clock_, newest_echo_);
  if (later_.empty()) return bytes;
  put_be(bytes, 0x01010500 | 10, 4);
  const auto& [at, text] = *later_.rbegin();
  put_be(bytes, peer_first_ + 1 + at, 4);
  put_be(bytes, peer_first_ + 1 + at + text.size(), 4);
  return bytes;
}

void ModelTcp::send(std::size_t at, std::size_t bytes, unsigned flags, const Emit& emit) {
  const bool syn = flags & kSyn;
  TcpFields segment{
      .ends = {.source = peers_.near, .destination = peers_.far},
      .source_port = peers_.near_port,
      .destination_port = peers_.far_port,
      .sequence = first_ + std::uint32_t(at) + !syn,
      .acknowledged = flags & kAck ? expects() : 0,
      .flags = flags,
      .options = options(),
      .payload = bytes_of_text(std::string_view(out_).substr(std::min(at, out_.size()), bytes))};
  said_time_ = clock_;
  ack_due_ = false;
  emit(segment);
}

void ModelTcp::say(Time now, std::uint32_t clock, Random& chances, const Emit& emit) {
  clock_ = clock_base_ + clock;
  if (!connected_) {
    if (now < repeat_at_) return;
    repeat_at_ = now + 2 * kRepeat;
    ++repeats_;
    greeted_ = true;
    return send(0, 0, end_ == End::client ? kSyn : kSyn | kAck, emit);
  }
  while (sent_ < out_.size() && sent_ - acked_ < kWindow && chances.chance(700)) {
    const std::size_t bytes = std::min(out_.size() - sent_, 1 + chances.below(700));
    const bool end = closing_ && sent_ + bytes == out_.size() && chances.chance(500);
    const std::size_t at = sent_;
    sent_ += bytes + end;
    send(at, bytes, kAck | kPsh | (end ? kFin : 0), emit);
    repeat_at_ = now + kRepeat;
  }
  if (closing_ && sent_ == out_.size()) {
    ++sent_;
    send(out_.size(), 0, kAck | kFin, emit);
    repeat_at_ = now + kRepeat;
  }
  if (acked_ < sent_ && now >= repeat_at_) {
    repeat(chances, emit);
    repeat_at_ = now + kRepeat;
  }
  if (ack_due_ && chances.chance(300)) send(std::min(sent_, out_.size() + 1), 0, kAck, emit);
}

// From the first byte on that the other side may lack.
void ModelTcp::repeat(Random& chances, const Emit& emit) {
  ++repeats_;
  std::size_t at = acked_;
  // After many attempts the other side is not believed any more: RFC 2018 lets it change its mind.
  for (const auto& [from, to] : sacked_)
    if (repeats_ < 20 && from <= at && at < to) at = to;
  if (at >= sent_) at = acked_;
  const std::size_t bytes =
      at < out_.size() ? std::min(std::min(sent_, out_.size()) - at, 1 + chances.below(1400)) : 0;
  const bool end = closing_ && sent_ > out_.size() && at + bytes == out_.size();
  send(at, bytes, kAck | (end ? kFin : 0), emit);
}

}  // namespace libft::sim
