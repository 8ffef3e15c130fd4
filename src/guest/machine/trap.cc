// SPDX-License-Identifier: LGPL-2.1-or-later
// Traps, their return, and which interrupt comes first (volume II, 3.1.6 to 3.1.9, 3.3, 4.1).
#include "core.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t kInterrupt = bit(63);
constexpr unsigned kByPriority[] = {kMachineExternal,    kMachineSoftware,    kMachineTimer,
                                    kSupervisorExternal, kSupervisorSoftware, kSupervisorTimer};
// Encodings, which an illegal one reports in xtval.
constexpr std::uint64_t kSret = 0x10200073, kMret = 0x30200073, kWfi = 0x10500073,
                        kSfenceVma = 0x12000073;

std::uint64_t vector(std::uint64_t tvec, std::uint64_t cause, bool interrupt) {
  const std::uint64_t base = tvec & ~std::uint64_t{3};
  return interrupt && (tvec & 1) != 0 ? base + 4 * cause : base;
}

// `field` of status becomes `value`.
void set(std::uint64_t& status, std::uint64_t field, bool value) {
  status = value ? status | field : status & ~field;
}

}  // namespace

void Core::take_trap(std::uint64_t cause, std::uint64_t value, std::uint64_t pc, bool interrupt) {
  Hart& h = hart;
  const std::uint64_t delegated = interrupt ? h.mideleg : h.medeleg;
  const std::uint64_t reported = cause | (interrupt ? kInterrupt : 0);
  if (!interrupt) --h.instret_offset;  // It did not retire.
  if (h.mode != Mode::machine && (delegated & bit(static_cast<unsigned>(cause))) != 0) {
    h.scause = reported;
    h.sepc = pc;
    h.stval = value;
    set(h.mstatus, kSpie, (h.mstatus & kSie) != 0);
    set(h.mstatus, kSie, false);
    set(h.mstatus, kSpp, h.mode == Mode::supervisor);
    h.mode = Mode::supervisor;
    h.pc = vector(h.stvec, cause, interrupt);
    return;
  }
  h.mcause = reported;
  h.mepc = pc;
  h.mtval = value;
  set(h.mstatus, kMpie, (h.mstatus & kMie) != 0);
  set(h.mstatus, kMie, false);
  h.mstatus = (h.mstatus & ~kMpp) | static_cast<std::uint64_t>(h.mode) << kMppShift;
  h.mode = Mode::machine;
  h.pc = vector(h.mtvec, cause, interrupt);
}

bool Core::take_interrupt() {
  const std::uint64_t wanted = hart.interrupts() & hart.mie;
  if (wanted == 0) return false;
  const bool machine_on = hart.mode != Mode::machine || (hart.mstatus & kMie) != 0;
  const bool supervisor_on =
      hart.mode == Mode::user || (hart.mode == Mode::supervisor && (hart.mstatus & kSie) != 0);
  std::uint64_t now = machine_on ? wanted & ~hart.mideleg : 0;
  if (now == 0 && supervisor_on) now = wanted & hart.mideleg;
  for (const unsigned number : kByPriority) {
    if ((now & bit(number)) == 0) continue;
    take_trap(number, 0, hart.pc, true);
    return true;
  }
  return false;
}

Core::Outcome Core::machine_return() {
  Hart& h = hart;
  if (h.mode != Mode::machine) return trap(Cause::illegal_instruction, kMret);
  const auto to = static_cast<Mode>(h.mstatus >> kMppShift & 3);
  set(h.mstatus, kMie, (h.mstatus & kMpie) != 0);
  set(h.mstatus, kMpie, true);
  h.mstatus &= ~kMpp;
  if (to != Mode::machine) h.mstatus &= ~kMprv;
  h.mode = to;
  h.pc = h.mepc;
  return Outcome::done;
}

Core::Outcome Core::supervisor_return() {
  Hart& h = hart;
  const bool trapped = h.mode == Mode::supervisor && (h.mstatus & kTsr) != 0;
  if (h.mode == Mode::user || trapped) return trap(Cause::illegal_instruction, kSret);
  const Mode to = (h.mstatus & kSpp) != 0 ? Mode::supervisor : Mode::user;
  set(h.mstatus, kSie, (h.mstatus & kSpie) != 0);
  set(h.mstatus, kSpie, true);
  h.mstatus &= ~(kSpp | kMprv);
  h.mode = to;
  h.pc = h.sepc;
  return Outcome::done;
}

Core::Outcome Core::wait_for_interrupt() {
  const bool trapped = hart.mode == Mode::supervisor && (hart.mstatus & kTw) != 0;
  if (hart.mode == Mode::user || trapped) return trap(Cause::illegal_instruction, kWfi);
  return Outcome::done;
}

// Stores to page tables have taken effect when they were made: nothing is outdated.
Core::Outcome Core::fence_translations(const Op& op) {
  const bool trapped = hart.mode == Mode::supervisor && (hart.mstatus & kTvm) != 0;
  if (hart.mode != Mode::user && !trapped) return Outcome::done;
  return trap(Cause::illegal_instruction,
              kSfenceVma | std::uint64_t{op.rs1} << 15 | std::uint64_t{op.rs2} << 20);
}

}  // namespace libft::machine
