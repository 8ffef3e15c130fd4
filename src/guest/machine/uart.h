// SPDX-License-Identifier: LGPL-2.1-or-later
// A 16550 serial port (National Semiconductor PC16550D), as far as drivers use it: what is sent is
// sent at once, what is received waits in a queue.
#pragma once

#include <functional>

#include "archive.h"
#include "bus.h"

namespace libft::machine {

class Uart final : public Device {
 public:
  static constexpr std::uint64_t kBytes = 0x100;
  static constexpr std::uint32_t kReceivedMax = 4096;  // Beyond, input is dropped.

  explicit Uart(std::function<void(std::byte)> send) : send_(std::move(send)) {}
  void reset();
  void receive(std::span<const std::byte> bytes);
  bool interrupts() const { return identification() != kNoInterrupt; }

  std::uint64_t load(std::uint64_t offset, unsigned size) override;
  void store(std::uint64_t offset, unsigned size, std::uint64_t value) override;
  void archive(Archive& a);

 private:
  static constexpr std::uint8_t kNoInterrupt = 1, kSentInterrupt = 2, kReceivedInterrupt = 4;

  std::uint8_t identification() const;
  std::uint8_t take();
  bool divisor_shows() const { return (line_control_ & 0x80) != 0; }

  std::function<void(std::byte)> send_;
  std::vector<std::byte> received_;
  std::uint8_t enabled_ = 0, line_control_ = 0, modem_control_ = 0, scratch_ = 0, fifo_ = 0;
  std::uint8_t divisor_low_ = 0, divisor_high_ = 0;
  bool sent_ = false;  // The transmitter became empty, and nobody looked yet.
};

}  // namespace libft::machine
