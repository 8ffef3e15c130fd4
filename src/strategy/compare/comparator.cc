// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/comparator.h"

#include <algorithm>
#include <utility>

namespace libft::compare {

Comparator::Flow* Comparator::flow_for(const Packet& packet) {
  const auto found = flows_.find(packet.flow);
  if (found != flows_.end()) {
    found->second.heard = true;
    return &found->second;
  }
  if (flows_.size() >= options_.flows_max) return nullptr;
  Flow& flow = flows_[packet.flow];
  if (packet.kind == PacketKind::packet) flow.compared.emplace<PacketFlow>();
  return &flow;
}

std::size_t Comparator::bytes_of(const Flow& flow) {
  return std::visit([](const auto& compared) { return compared.bytes(); }, flow.compared);
}

template <class Change>
void Comparator::counted(Flow& flow, Change change) {
  bytes_ -= bytes_of(flow);
  change();
  bytes_ += bytes_of(flow);
}

Comparator::Taken Comparator::take(const Packet& packet, BytesView frame) {
  Taken taken{.segment = read_tcp(packet, frame)};
  const bool fits =
      packet.kind == PacketKind::packet || (taken.segment && understood(*taken.segment));
  if (!fits) {
    taken.reason = Reason::not_understood;
    return taken;
  }
  taken.flow = flow_for(packet);
  if (taken.flow == nullptr || bytes_ + frame.size() > options_.bytes_max)
    taken.reason = Reason::limit;
  return taken;
}

Verdict Comparator::on_primary(FrameNo number, unsigned nic, BytesView frame, Time now) {
  const Packet packet = read_packet(nic, frame, Direction::from_guest);
  if (state_ == State::checkpoint) {
    leave_to_checkpoint(packet, frame);
    return {};
  }
  const Taken taken = take(packet, frame);
  if (taken.reason != Reason::none) {
    leave_to_checkpoint(packet, frame);
    return want(taken.reason);
  }
  counted(*taken.flow, [&] {
    if (taken.segment)
      std::get<TcpFlow>(taken.flow->compared).on_primary(number, *taken.segment);
    else
      std::get<PacketFlow>(taken.flow->compared).on_primary(number, comparable(packet, frame));
  });
  const bool patient = taken.segment && taken.segment->only_acknowledges();
  (patient ? acknowledging_ : waiting_).emplace(number, now);
  return judge(*taken.flow);
}

Verdict Comparator::on_follower(unsigned nic, BytesView frame) {
  if (state_ == State::checkpoint) return {};
  const Packet packet = read_packet(nic, frame, Direction::from_guest);
  const Taken taken = take(packet, frame);
  if (taken.reason != Reason::none) return want(taken.reason);
  bool agrees = true;
  counted(*taken.flow, [&] {
    if (taken.segment)
      agrees = std::get<TcpFlow>(taken.flow->compared).on_follower(*taken.segment);
    else
      std::get<PacketFlow>(taken.flow->compared).on_follower(comparable(packet, frame));
  });
  return agrees ? judge(*taken.flow) : want(Reason::content_differs);
}

// Of a connection it is remembered how far it went, also there.
void Comparator::leave_to_checkpoint(const Packet& packet, BytesView frame) {
  ++statistics_.by_checkpoint;
  const auto segment = read_tcp(packet, frame);
  if (!segment) return;
  if (Flow* flow = flow_for(packet)) std::get<TcpFlow>(flow->compared).note_primary(*segment);
}

void Comparator::on_world(unsigned nic, BytesView frame) {
  if (state_ != State::comparing) return;
  const Packet packet = read_packet(nic, frame, Direction::to_guest);
  const auto segment = read_tcp(packet, frame);
  if (!segment || !segment->acknowledged) return;
  const auto found = flows_.find(packet.flow);
  if (found == flows_.end()) return;
  counted(found->second, [&] {
    std::get<TcpFlow>(found->second.compared).on_client_acknowledged(*segment->acknowledged);
  });
}

// Lets out what may leave of a flow, up to the first frame that waits.
Verdict Comparator::judge(Flow& flow) {
  Verdict verdict;
  if (state_ != State::comparing) return verdict;
  const auto let_out = [&](auto& compared) {
    while (compared.waiting()) {
      const Judgement judgement = compared.judge();
      if (judgement == Judgement::checkpoint) verdict.checkpoint = Reason::content_differs;
      if (judgement != Judgement::release) return;
      verdict.release.push_back(compared.oldest());
      compared.released();
    }
  };
  counted(flow, [&] { std::visit(let_out, flow.compared); });
  for (const FrameNo number : verdict.release) {
    waiting_.erase(number);
    acknowledging_.erase(number);
  }
  statistics_.released += verdict.release.size();
  if (verdict.checkpoint != Reason::none) (void)want(verdict.checkpoint);
  return verdict;
}

Verdict Comparator::want(Reason reason) {
  ++statistics_.checkpoints[std::size_t(reason)];
  rest();
  return {.release = {}, .checkpoint = reason};
}

// From here on nothing is compared, so nothing that was kept is needed.
void Comparator::rest() {
  state_ = State::checkpoint;
  statistics_.by_checkpoint += waiting_.size() + acknowledging_.size();
  waiting_.clear();
  acknowledging_.clear();
  const auto forget = [](auto& compared) { compared.forget(); };
  for (auto& entry : flows_)
    counted(entry.second, [&] { std::visit(forget, entry.second.compared); });
}

std::optional<Time> Comparator::deadline() const {
  std::optional<Time> earliest;
  if (state_ != State::comparing) return earliest;
  const auto consider = [&](const std::map<FrameNo, Time>& waiting, Millis limit) {
    if (waiting.empty()) return;
    const Time due = std::max(waiting.begin()->second, follower_since_) + limit;
    earliest = std::min(earliest.value_or(due), due);
  };
  consider(waiting_, options_.answer_max);
  consider(acknowledging_, options_.acknowledgement_max);
  return earliest;
}

Verdict Comparator::on_time(Time now) {
  const auto due = deadline();
  return due && *due <= now ? want(Reason::no_answer) : Verdict{};
}

void Comparator::captured() {
  statistics_.by_checkpoint += waiting_.size() + acknowledging_.size();
  waiting_.clear();
  acknowledging_.clear();
  drop_flows();
  bytes_ = 0;
  for (const auto& [key, flow] : flows_) bytes_ += bytes_of(flow);
  state_ = State::loading;
}

// Keeps what is known of connections, while there is room: without it, the first thing that either
// host says in one may need another checkpoint.
void Comparator::drop_flows() {
  const bool crowded = flows_.size() > options_.flows_max / 2;
  for (auto at = flows_.begin(); at != flows_.end();) {
    Flow& flow = at->second;
    auto* tcp = std::get_if<TcpFlow>(&flow.compared);
    const bool heard = std::exchange(flow.heard, false);
    at = tcp != nullptr && tcp->rebase() && (heard || !crowded) ? std::next(at) : flows_.erase(at);
  }
  if (flows_.size() > options_.flows_max / 2) flows_.clear();
}

Verdict Comparator::follower_runs(Time now) {
  if (state_ != State::loading) return {};
  follower_since_ = now;
  state_ = State::comparing;
  Verdict all;
  for (auto& [key, flow] : flows_) {
    const Verdict one = judge(flow);
    all.release.insert(all.release.end(), one.release.begin(), one.release.end());
    all.checkpoint = one.checkpoint;
    if (all.checkpoint != Reason::none) break;
  }
  return all;
}

}  // namespace libft::compare
