// SPDX-License-Identifier: LGPL-2.1-or-later
// The platform-level interrupt controller (RISC-V PLIC specification 1.0.0), for level-triggered
// sources: a source is pending while its device asks and nobody serves it. Context 2n is hart n's
// machine mode, 2n+1 its supervisor mode, as on QEMU's `virt`.
#pragma once

#include <array>

#include "archive.h"
#include "bus.h"
#include "clint.h"

namespace libft::machine {

class Plic final : public Device {
 public:
  static constexpr std::uint64_t kBytes = 0x600000;
  static constexpr unsigned kSources = 32, kContexts = 2 * kHartsMax;

  void set_level(unsigned source, bool asks) {
    levels_ = asks ? levels_ | 1u << source : levels_ & ~(1u << source);
  }
  bool interrupts(unsigned context) const { return best(context, thresholds_[context]) != 0; }

  std::uint64_t load(std::uint64_t offset, unsigned size) override;
  void store(std::uint64_t offset, unsigned size, std::uint64_t value) override;
  void reset() { *this = Plic(); }
  void archive(Archive& a) {
    a.field(priorities_), a.field(enabled_), a.field(thresholds_), a.field(served_);
  }

 private:
  // The pending source of the highest priority above `threshold`; 0: none.
  unsigned best(unsigned context, std::uint32_t threshold) const;
  std::uint32_t claim(unsigned context);

  std::uint32_t levels_ = 0;  // A function of the devices' state, so no state.
  std::array<std::uint32_t, kSources> priorities_{};
  std::array<std::uint32_t, kContexts> enabled_{}, thresholds_{};
  std::uint32_t served_ = 0;
};

}  // namespace libft::machine
