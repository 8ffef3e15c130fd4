// SPDX-License-Identifier: LGPL-2.1-or-later
// The supervisor binary interface (RISC-V SBI specification 2.0), implemented outside the guest:
// base, timer, IPI, RFENCE, HSM, SRST, and the legacy console. What it remembers is one deadline a
// hart.
#pragma once

#include <array>
#include <cstdint>

#include "archive.h"
#include "clint.h"
#include "hart.h"

namespace libft::machine {

enum class End { running, shut_down, reset_requested, failed };

// What the firmware may do to the machine.
class SbiHost {
 public:
  virtual Hart& hart(unsigned id) = 0;
  virtual unsigned harts() const = 0;
  virtual void start_hart(unsigned id, std::uint64_t pc, std::uint64_t opaque) = 0;
  virtual void console_put(std::byte byte) = 0;
  virtual std::uint64_t console_get() = 0;  // All ones: nothing there.
  virtual void end(End why) = 0;

 protected:
  ~SbiHost() = default;
};

class Sbi {
 public:
  explicit Sbi(SbiHost& host) : host_(host) { reset(); }
  void reset() { deadlines_.fill(~std::uint64_t{0}); }

  // Serves the ECALL at which `caller` stands, and lets it go on behind.
  void call(Hart& caller);
  std::uint64_t deadline(unsigned hart) const { return deadlines_[hart]; }  // In ticks.
  void archive(Archive& a) { a.field(deadlines_); }

 private:
  struct Answer {
    std::int64_t error = 0;
    std::uint64_t value = 0;
  };
  Answer serve(Hart& caller, std::uint64_t extension, std::uint64_t function);
  Answer base(std::uint64_t function, std::uint64_t extension) const;
  Answer send_ipi(std::uint64_t mask, std::uint64_t first);
  Answer manage_hart(Hart& caller, std::uint64_t function);
  Answer suspend(Hart& caller);
  Answer system_reset(std::uint64_t kind, std::uint64_t reason);
  bool legacy(Hart& caller, std::uint64_t function, std::uint64_t& result);

  SbiHost& host_;
  std::array<std::uint64_t, kHartsMax> deadlines_{};
};

}  // namespace libft::machine
