// SPDX-License-Identifier: LGPL-2.1-or-later
// The SimGate holds a SimGuest's output. What leaves is told to a listener, with the epoch under
// which it was held: the oracle judges each.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "libft/output_gate.h"
#include "sim/guest.h"

namespace libft::sim {

// What a guest sends: a packet of its own, or a frame for a client.
struct Output {
  Packet packet;
  std::optional<Said> said;  // Then that, and no packet.
};

class SimGate final : public OutputGate {
 public:
  using Left = std::function<void(const Output&, std::optional<EpochId>)>;
  SimGate(std::uint32_t epochs_held_max, Left left)
      : epochs_held_max_(epochs_held_max), left_(std::move(left)) {}

  void send(Output output);  // From the guest.
  std::size_t epochs_held() const { return sealed_.size(); }
  bool holding() const { return holding_; }
  bool never_hold = false;  // For one mutant.
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

 private:
  struct Sealed {
    EpochId id;
    std::vector<Output> outputs;
  };

  std::uint32_t epochs_held_max_;
  Left left_;
  std::function<void()> waiting_;
  bool holding_ = true;
  std::vector<Output> current_;
  std::deque<Sealed> sealed_;
  std::optional<EpochId> late_;
  GateStatistics statistics_;
};

}  // namespace libft::sim
