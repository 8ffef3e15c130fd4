// SPDX-License-Identifier: LGPL-2.1-or-later
// Hart is what one hardware thread remembers: registers, privilege mode, control and status
// registers (volume II, 20211203). It is the canonical state: no cache of the interpreter is part
// of it. A value.
#pragma once

#include <array>
#include <cstdint>

namespace libft::machine {

enum class Mode : std::uint8_t { user = 0, supervisor = 1, machine = 3 };

// Table 3.6 of volume II. The interrupts' bits in mip and mie have the same numbers.
enum class Cause : std::uint64_t {
  fetch_access = 1,
  illegal_instruction = 2,
  breakpoint = 3,
  load_misaligned = 4,
  load_access = 5,
  store_misaligned = 6,
  store_access = 7,
  call_from_user = 8,
  call_from_supervisor = 9,
  call_from_machine = 11,
  fetch_page = 12,
  load_page = 13,
  store_page = 15,
};
inline constexpr unsigned kSupervisorSoftware = 1, kMachineSoftware = 3, kSupervisorTimer = 5,
                          kMachineTimer = 7, kSupervisorExternal = 9, kMachineExternal = 11;
constexpr std::uint64_t bit(unsigned number) { return std::uint64_t{1} << number; }

// Fields of mstatus.
inline constexpr std::uint64_t kSie = bit(1), kMie = bit(3), kSpie = bit(5), kMpie = bit(7),
                               kSpp = bit(8), kMpp = bit(11) | bit(12), kMprv = bit(17),
                               kSum = bit(18), kMxr = bit(19), kTvm = bit(20), kTw = bit(21),
                               kTsr = bit(22), kUxl = bit(33), kSxl = bit(35);
inline constexpr unsigned kMppShift = 11;

struct Hart {
  // x[0] stays zero; x[kNowhere] takes what is written to it.
  std::array<std::uint64_t, 33> x{};
  std::uint64_t pc = 0;
  Mode mode = Mode::machine;
  std::uint32_t id = 0;

  std::uint64_t mstatus = kUxl | kSxl;
  std::uint64_t medeleg = 0, mideleg = 0, mie = 0;
  std::uint64_t pending = 0;  // mip as far as software wrote it.
  std::uint64_t lines = 0;    // mip as the platform's devices drive it.
  std::uint64_t mtvec = 0, mcounteren = 0, mcountinhibit = 0, mscratch = 0, mepc = 0, mcause = 0,
                mtval = 0, menvcfg = 0;
  std::uint64_t stvec = 0, scounteren = 0, sscratch = 0, sepc = 0, scause = 0, stval = 0, satp = 0,
                senvcfg = 0;

  std::uint64_t steps = 0;  // Instructions executed, those that trapped included.
  std::uint64_t cycle_offset = 0, instret_offset = 0;  // mcycle and minstret, less `steps`.

  // LR's address. It does not survive the end of the hart's turn, which volume I, 8.3 permits (SC
  // may fail); so no other hart and no device ever writes while it stands.
  bool reserved = false;
  std::uint64_t reservation = 0;        // Its virtual address,
  std::uint64_t reserved_physical = 0;  // and its physical one.

  bool started = true;   // Otherwise stopped, as HSM says.
  bool waiting = false;  // In WFI.

  std::uint64_t interrupts() const { return pending | lines; }
  bool runnable() const { return started && (!waiting || (interrupts() & mie) != 0); }
};

}  // namespace libft::machine
