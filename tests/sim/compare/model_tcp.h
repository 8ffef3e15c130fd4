// SPDX-License-Identifier: LGPL-2.1-or-later
// A model of one end of a TCP connection, with what matters to a comparison: own initial numbers
// and clock, segments of any size, losses made good, selective acknowledgements, PAWS. It says so
// when it is told what cannot be. A value: a copy goes on like the original, but for its host's
// chances.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sim/random.h"
#include "support/ip_frames.h"

namespace libft::sim {

using test::FrameBytes;
using test::TcpFields;

enum class End { client, server };

struct Peers {
  std::uint8_t near = 1, far = 2;  // Addresses.
  std::uint16_t near_port = 80, far_port = 4000;
};

class ModelTcp {
 public:
  // A client's, which calls.
  ModelTcp(const Peers& peers, std::uint32_t first, Random& chances);
  // A server's, which was called.
  ModelTcp(const Peers& peers, const TcpFields& syn, Random& chances);

  using Emit = std::function<void(const TcpFields&)>;
  void on(const TcpFields& segment);
  // What is due now; `clock` is the host's, in milliseconds.
  void say(Time now, std::uint32_t clock, Random& chances, const Emit& emit);

  void write(const std::string& bytes) { out_ += bytes; }
  void close() { closing_ = true; }

  const std::string& in() const { return in_; }
  const std::string& out() const { return out_; }
  std::uint32_t first() const { return first_; }
  std::uint32_t peer_first() const { return peer_first_; }
  std::uint32_t expects() const {
    return peer_first_ + 1 + std::uint32_t(in_.size()) + peer_closed();
  }
  bool peer_closed() const { return fin_at_ && in_.size() == *fin_at_; }
  bool done() const { return closing_ && acked_ == out_.size() + 1 && peer_closed(); }
  std::size_t acked() const { return acked_; }
  // Whether it sent that at that place of its stream, once at least. A FIN is at out().size().
  bool said(std::size_t at, const std::string& bytes) const;
  bool said_end(std::size_t at) const { return closing_ && at == out_.size() && sent_ > at; }
  bool greeted() const { return greeted_; }

  // The first thing it was told that cannot be.
  const std::string& nonsense() const { return nonsense_; }
  bool lost_patience() const { return repeats_ > 200; }

 private:
  void wrong(const std::string& what) {
    if (nonsense_.empty()) nonsense_ = what;
  }
  bool on_acknowledgement(const TcpFields& segment);
  void on_sack(const FrameBytes& options);
  void on_payload(std::size_t at, const TcpFields& segment);
  void send(std::size_t at, std::size_t bytes, unsigned flags, const Emit& emit);
  void repeat(Random& chances, const Emit& emit);
  FrameBytes options() const;

  End end_;
  Peers peers_;
  std::uint32_t first_, peer_first_ = 0;
  std::uint32_t clock_base_, clock_ = 0, newest_echo_ = 0, said_time_ = 0;
  bool greeted_ = false;    // It sent its SYN.
  bool connected_ = false;  // The other side knows.
  std::string out_, in_;
  std::size_t acked_ = 0, sent_ = 0;  // With the FIN.
  bool closing_ = false;
  std::map<std::size_t, std::string> later_;
  std::map<std::size_t, std::size_t> sacked_;  // From, to.
  std::optional<std::size_t> fin_at_;
  bool ack_due_ = false;
  Time repeat_at_{};
  unsigned repeats_ = 0;
  std::string nonsense_;
};

}  // namespace libft::sim
