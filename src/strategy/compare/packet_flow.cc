// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/compare/packet_flow.h"

#include <utility>

namespace libft::compare {

void PacketFlow::on_primary(FrameNo number, Bytes packet) {
  bytes_ += packet.size() + sizeof(Pending);
  pending_.push_back({number, std::move(packet)});
}

void PacketFlow::on_follower(Bytes packet) {
  bytes_ += packet.size() + sizeof(Bytes);
  answers_.push_back(std::move(packet));
}

Judgement PacketFlow::judge() const {
  if (answers_.empty()) return Judgement::wait;
  return pending_.front().packet == answers_.front() ? Judgement::release : Judgement::checkpoint;
}

void PacketFlow::released() {
  bytes_ -= pending_.front().packet.size() + sizeof(Pending);
  bytes_ -= answers_.front().size() + sizeof(Bytes);
  pending_.pop_front();
  answers_.pop_front();
}

void PacketFlow::forget() {
  pending_.clear();
  answers_.clear();
  bytes_ = 0;
}

}  // namespace libft::compare
