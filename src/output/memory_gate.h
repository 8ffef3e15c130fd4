// SPDX-License-Identifier: LGPL-2.1-or-later
// A MemoryGate is the output gate of a guest that lives in this process: what the guest emits is
// handed to a function when its epoch is released. Simulation and unit tests use it. Deterministic,
// without a thread: one thread calls everything, and delivery happens inside release() and open().
#pragma once

#include <atomic>
#include <memory>

#include "output/held_frames.h"

namespace libft::output {

struct MemoryGateOptions {
  std::uint32_t epochs_held_max = 64;
  std::uint64_t bytes_held_max = 1ull << 20;
  std::uint32_t frames_held_max = 1u << 16;
};

class MemoryGate final : public OutputGate {
 public:
  // The outside world. It may call back into the gate only through statistics().
  using Deliver = std::function<void(std::span<const std::byte>)>;

  static Result<std::unique_ptr<MemoryGate>> create(const MemoryGateOptions& options,
                                                    Deliver deliver);

  // The guest sends. False: the gate is full, the guest keeps it and must try again later.
  // REQUIRES: at most kFrameBytesMax bytes.
  [[nodiscard]] bool emit(std::span<const std::byte> bytes);

  GateLimits limits() const override;
  void set_waiting_sink(std::function<void()> sink) override { waiting_ = std::move(sink); }
  Status hold() override;
  Status seal(EpochId id) override;
  Status release(EpochId id) override;
  void discard() override;
  Status open() override;
  GateStatistics statistics() const override;

 private:
  MemoryGate(const MemoryGateOptions& options, HeldFrames held, Deliver deliver)
      : options_(options), held_(std::move(held)), deliver_(std::move(deliver)) {}
  void deliver_due();
  void publish();

  MemoryGateOptions options_;
  HeldFrames held_;
  Deliver deliver_;
  std::function<void()> waiting_;
  // Read by statistics() on any thread; the rest belongs to the one that calls.
  std::atomic<std::uint64_t> frames_held_{0}, bytes_held_{0}, released_{0}, discarded_{0};
};

}  // namespace libft::output
