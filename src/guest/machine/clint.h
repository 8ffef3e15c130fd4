// SPDX-License-Identifier: LGPL-2.1-or-later
// The core-local interruptor (RISC-V ACLINT specification 1.0-rc4: MSWI, MTIMER): software
// interrupts and timers of machine mode. Its timers expire at positions.
#pragma once

#include <array>
#include <functional>

#include "archive.h"
#include "bus.h"

namespace libft::machine {

inline constexpr unsigned kHartsMax = 8;

class Clint final : public Device {
 public:
  static constexpr std::uint64_t kBytes = 0x10000;

  explicit Clint(std::function<std::uint64_t()> time) : time_(std::move(time)) { reset(); }
  void reset() {
    software_.fill(0);
    compare_.fill(~std::uint64_t{0});
  }

  std::uint64_t load(std::uint64_t offset, unsigned size) override;
  void store(std::uint64_t offset, unsigned size, std::uint64_t value) override;

  bool software(unsigned hart) const { return software_[hart] != 0; }
  std::uint64_t deadline(unsigned hart) const { return compare_[hart]; }  // In ticks.
  void archive(Archive& a) { a.field(software_), a.field(compare_); }

 private:
  static constexpr std::uint64_t kCompare = 0x4000, kTime = 0xbff8;

  std::function<std::uint64_t()> time_;
  std::array<std::uint32_t, kHartsMax> software_{};
  std::array<std::uint64_t, kHartsMax> compare_{};
};

}  // namespace libft::machine
