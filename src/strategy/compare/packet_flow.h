// SPDX-License-Identifier: LGPL-2.1-or-later
// A flow whose packets are compared whole, one after the other: what the primary says n-th there
// must be what the follower says n-th. One thread.
#pragma once

#include <deque>

#include "strategy/compare/packet.h"
#include "strategy/compare/verdict.h"

namespace libft::compare {

class PacketFlow {
 public:
  void on_primary(FrameNo number, Bytes packet);
  void on_follower(Bytes packet);

  bool waiting() const { return !pending_.empty(); }
  FrameNo oldest() const { return pending_.front().number; }
  Judgement judge() const;  // The oldest. REQUIRES: waiting()
  void released();          // The oldest is.
  void forget();

  std::size_t bytes() const { return bytes_; }

 private:
  struct Pending {
    FrameNo number;
    Bytes packet;
  };
  std::deque<Pending> pending_;
  std::deque<Bytes> answers_;
  std::size_t bytes_ = 0;
};

}  // namespace libft::compare
