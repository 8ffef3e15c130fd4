// SPDX-License-Identifier: LGPL-2.1-or-later
// A TcpFlow is one connection, or one after the other between the same two ports, compared by what
// is said: the payload and its end, at the same place of the stream. Not compared, because hosts
// that say the same differ in it: where a connection's sequence numbers begin, the cut into
// segments, how often something is sent, windows, times, selective acknowledgements.
//
// Acknowledgements are compared by order: the primary's waits until the follower has acknowledged
// as much, because a client that was told so sends that never again, and a promoted follower needs
// it. One thread.
#pragma once

#include <deque>
#include <optional>

#include "strategy/compare/stream.h"
#include "strategy/compare/tcp_segment.h"
#include "strategy/compare/verdict.h"

namespace libft::compare {

class TcpFlow {
 public:
  // REQUIRES, of both: understood(segment). False: the follower contradicts itself.
  void on_primary(FrameNo number, const TcpSegment& segment);
  bool on_follower(const TcpSegment& segment);
  // The primary's, which is not compared: it goes with the next checkpoint.
  void note_primary(const TcpSegment& segment);
  // The client has everything before `sequence`, as the primary counts.
  void on_client_acknowledged(std::uint32_t sequence);

  bool waiting() const { return !pending_.empty(); }
  FrameNo oldest() const { return pending_.front().number; }
  Judgement judge() const;  // The oldest. REQUIRES: waiting()
  void released();          // The oldest is.
  void forget();            // What waits and what was said, not what note_primary() noted.

  // Both go on from what the primary is now. False: nothing is known of it.
  bool rebase();

  std::size_t bytes() const { return pending_bytes_ + stream_.bytes(); }

 private:
  // One host's connection. Lives count its connections since the checkpoint; positions count from
  // the SYN of the current one, or are sequence numbers if that was before the checkpoint.
  struct Side {
    std::optional<std::uint32_t> first;  // The newest SYN's sequence number.
    unsigned life = 0;
    std::uint32_t base = 0;
    bool begins(const TcpSegment& segment);  // A connection; false: it was begun.
  };
  struct Pending {
    FrameNo number;
    unsigned life;
    std::uint32_t position;  // Of the first byte of payload.
    std::optional<std::uint32_t> acknowledged;
    bool fin, rst;
    Bytes terms;  // Of a SYN that began one of the lives; else empty.
    Bytes payload;
    std::uint32_t end() const { return position + std::uint32_t(payload.size()) + fin; }
  };
  Judgement judge_payload(const Pending& frame) const;
  Judgement judge_fin(const Pending& frame) const;

  Side primary_, follower_;
  std::deque<Pending> pending_;
  std::size_t pending_bytes_ = 0;
  std::optional<std::uint32_t> released_;  // Up to which position, in the primary's life.

  // The follower's life:
  Stream stream_;
  std::optional<std::uint32_t> fin_;  // Its position.
  unsigned resets_ = 0;               // Said, and not yet released.
  Bytes terms_;
  std::optional<std::uint32_t> acknowledged_;  // The newest.

  // The primary's newest, for rebase(): sequence numbers.
  std::optional<std::uint32_t> sent_, sent_acknowledged_;
};

}  // namespace libft::compare
