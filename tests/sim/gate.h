// SPDX-License-Identifier: LGPL-2.1-or-later
// The SimGate holds a SimGuest's output. What leaves is told to a listener, with the epoch under
// which it was held: the oracle judges each.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "libft/compared_gate.h"
#include "libft/input_tap.h"
#include "libft/output_gate.h"
#include "sim/guest.h"

namespace libft::sim {

// What a guest sends: a packet of its own, or a frame for a client.
struct Output {
  Packet packet;
  std::optional<Said> said;  // Then that, and no packet.
};

enum class Leave { by_epoch, by_comparison, by_open_gate };

class SimGate final : public OutputGate, public ComparedGate, public InputTap {
 public:
  // `frame`: as the world sees it. By epoch: that one.
  using Left = std::function<void(const Output&, const FrameBytes& frame, Leave, EpochId)>;
  SimGate(std::uint32_t epochs_held_max, Left left)
      : epochs_held_max_(epochs_held_max), left_(std::move(left)) {}

  void send(Output output);                // From the guest.
  void on_world(const FrameBytes& frame);  // For the guest.
  std::function<void(const FrameBytes&)> to_guest;
  std::size_t epochs_held() const { return sealed_.size(); }
  bool holding() const { return holding_; }
  bool never_hold = false;  // For one mutant; for another:
  bool lets_all_out = false;
  // For another: seal() only notes the epoch, and finish_seal() does it, too late.
  bool seal_late = false;
  void finish_seal();

  GateLimits limits() const override { return {epochs_held_max_, 1u << 20}; }
  void set_waiting_sink(std::function<void()> sink) override { waiting_ = std::move(sink); }
  Status hold() override;
  Status seal(EpochId id) override;
  Status release(EpochId id) override;
  void discard() override;
  Status open() override;
  GateStatistics statistics() const override { return statistics_; }

  void set_judge(Judge judge) override { judge_ = std::move(judge); }
  void let_out(std::span<const FrameNo> frames) override;
  void follow(FollowerSink sink) override;
  void set_rewrite(Rewrite rewrite) override { rewrite_ = std::move(rewrite); }
  void set_input_sink(std::function<void(std::span<const std::byte>, unsigned)> sink) override {
    input_sink_ = std::move(sink);
  }
  Status inject_input(unsigned nic, std::span<const std::byte> frame) override;

 private:
  struct Held {
    FrameNo number;
    Output output;
  };
  struct Sealed {
    EpochId id;
    std::vector<Held> outputs;
  };
  void leave(const Output& output, Leave how, EpochId id = {});

  std::uint32_t epochs_held_max_;
  Left left_;
  std::function<void()> waiting_;
  bool holding_ = true;
  std::vector<Held> current_;
  std::deque<Sealed> sealed_;
  std::optional<EpochId> late_;
  GateStatistics statistics_;
  FrameNo newest_;
  Judge judge_;
  Rewrite rewrite_;
  std::optional<FollowerSink> follower_;
  std::function<void(std::span<const std::byte>, unsigned)> input_sink_;
};

}  // namespace libft::sim
