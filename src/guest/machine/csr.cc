// SPDX-License-Identifier: LGPL-2.1-or-later
// Control and status registers (volume II, chapter 2 has the numbers). Where the specification
// leaves it open what a field takes (WARL), it is as in QEMU's `rv64` without the extensions that
// this machine lacks, so that the two can be compared instruction by instruction.
#include "core.h"

namespace libft::machine {

namespace {

enum Number : unsigned {
  kSstatus = 0x100,
  kSieCsr = 0x104,
  kStvec = 0x105,
  kScounteren = 0x106,
  kSenvcfg = 0x10a,
  kSscratch = 0x140,
  kSepc = 0x141,
  kScause = 0x142,
  kStval = 0x143,
  kSip = 0x144,
  kSatp = 0x180,
  kMstatus = 0x300,
  kMisa = 0x301,
  kMedeleg = 0x302,
  kMideleg = 0x303,
  kMieCsr = 0x304,
  kMtvec = 0x305,
  kMcounteren = 0x306,
  kMenvcfg = 0x30a,
  kMcountinhibit = 0x320,
  kMhpmevent3 = 0x323,
  kMhpmevent31 = 0x33f,
  kMscratch = 0x340,
  kMepc = 0x341,
  kMcause = 0x342,
  kMtval = 0x343,
  kMip = 0x344,
  kMcycle = 0xb00,
  kMinstret = 0xb02,
  kMhpmcounter3 = 0xb03,
  kMhpmcounter31 = 0xb1f,
  kCycle = 0xc00,
  kTime = 0xc01,
  kInstret = 0xc02,
  kHpmcounter31 = 0xc1f,
  kMvendorid = 0xf11,
  kMarchid = 0xf12,
  kMimpid = 0xf13,
  kMhartid = 0xf14,
  kMconfigptr = 0xf15,
};

constexpr std::uint64_t letter(char name) { return bit(static_cast<unsigned>(name - 'a')); }
constexpr std::uint64_t kIsa = std::uint64_t{2} << 62 | letter('i') | letter('m') | letter('a') |
                               letter('c') | letter('s') | letter('u');

constexpr std::uint64_t kSupervisorInterrupts =
    bit(kSupervisorSoftware) | bit(kSupervisorTimer) | bit(kSupervisorExternal);
constexpr std::uint64_t kMachineInterrupts =
    bit(kMachineSoftware) | bit(kMachineTimer) | bit(kMachineExternal);
// Every exception that there is, but calls from machine mode.
constexpr std::uint64_t kDelegable = bit(0) | bit(1) | bit(2) | bit(3) | bit(4) | bit(5) | bit(6) |
                                     bit(7) | bit(8) | bit(9) | bit(12) | bit(13) | bit(15);
constexpr std::uint64_t kSstatusRead = kSie | kSpie | kSpp | kSum | kMxr | std::uint64_t{3} << 32;
constexpr std::uint64_t kSstatusWrite = kSie | kSpie | kSpp | kSum | kMxr;
constexpr std::uint64_t kMstatusWrite =
    kSstatusWrite | kMie | kMpie | kMpp | kMprv | kTvm | kTw | kTsr;
constexpr std::uint64_t kFenceOfIo = 1;  // FIOM of menvcfg and senvcfg.

bool between(unsigned number, unsigned first, unsigned last) {
  return number >= first && number <= last;
}

bool known(unsigned number) {
  if (between(number, kMhpmevent3, kMhpmevent31)) return true;
  if (between(number, kMhpmcounter3, kMhpmcounter31)) return true;
  if (between(number, kCycle, kHpmcounter31)) return true;
  switch (number) {
    case kSstatus:
    case kSieCsr:
    case kStvec:
    case kScounteren:
    case kSenvcfg:
    case kSscratch:
    case kSepc:
    case kScause:
    case kStval:
    case kSip:
    case kSatp:
    case kMstatus:
    case kMisa:
    case kMedeleg:
    case kMideleg:
    case kMieCsr:
    case kMtvec:
    case kMcounteren:
    case kMenvcfg:
    case kMcountinhibit:
    case kMscratch:
    case kMepc:
    case kMcause:
    case kMtval:
    case kMip:
    case kMcycle:
    case kMinstret:
    case kMvendorid:
    case kMarchid:
    case kMimpid:
    case kMhartid:
    case kMconfigptr: return true;
    default: return false;
  }
}

}  // namespace

bool Core::counter_readable(unsigned number) const {
  const std::uint64_t which = bit(number & 31);
  if (hart.mode != Mode::machine && (hart.mcounteren & which) == 0) return false;
  return hart.mode != Mode::user || (hart.scounteren & which) != 0;
}

bool Core::csr_exists(unsigned number, bool write) const {
  if (!known(number)) return false;
  if (write && number >> 10 == 3) return false;  // Read-only, by its number.
  if (static_cast<unsigned>(hart.mode) < (number >> 8 & 3)) return false;
  if (between(number, kCycle, kHpmcounter31)) return counter_readable(number);
  const bool trapped = hart.mode == Mode::supervisor && (hart.mstatus & kTvm) != 0;
  return number != kSatp || !trapped;
}

Core::Outcome Core::access_csr(const Op& op) {
  const auto number = static_cast<unsigned>(op.imm);
  const bool immediate = (op.function & 4) != 0;
  const unsigned kind = op.function & 3;  // 1 write, 2 set, 3 clear
  const bool writes = kind == 1 || op.rs1 != 0;
  if (!csr_exists(number, writes)) {
    const std::uint64_t rd = op.rd == kNowhere ? 0 : op.rd;
    return trap(Cause::illegal_instruction, std::uint64_t{number} << 20 |
                                                std::uint64_t{op.rs1} << 15 |
                                                std::uint64_t{op.function} << 12 | rd << 7 | 0x73);
  }
  const std::uint64_t with = immediate ? op.rs1 : hart.x[op.rs1];
  const std::uint64_t old = read_csr(number);
  Outcome outcome = Outcome::done;
  if (writes) {
    // What devices drive must not become software's by being read (3.1.9).
    const bool driven = number == kMip || number == kSip;
    const std::uint64_t base = driven ? old & ~hart.lines : old;
    outcome = write_csr(number, kind == 1 ? with : kind == 2 ? base | with : base & ~with);
  }
  hart.x[op.rd] = old;
  return outcome;
}

std::uint64_t Core::read_csr(unsigned number) const {
  const Hart& h = hart;
  switch (number) {
    case kSstatus: return h.mstatus & kSstatusRead;
    case kSieCsr: return h.mie & h.mideleg & kSupervisorInterrupts;
    case kStvec: return h.stvec;
    case kScounteren: return h.scounteren;
    case kSenvcfg: return h.senvcfg;
    case kSscratch: return h.sscratch;
    case kSepc: return h.sepc;
    case kScause: return h.scause;
    case kStval: return h.stval;
    case kSip: return h.interrupts() & h.mideleg & kSupervisorInterrupts;
    case kSatp: return h.satp;
    case kMstatus: return h.mstatus;
    case kMisa: return kIsa;
    case kMedeleg: return h.medeleg;
    case kMideleg: return h.mideleg;
    case kMieCsr: return h.mie;
    case kMtvec: return h.mtvec;
    case kMcounteren: return h.mcounteren;
    case kMenvcfg: return h.menvcfg;
    case kMcountinhibit: return h.mcountinhibit;
    case kMscratch: return h.mscratch;
    case kMepc: return h.mepc;
    case kMcause: return h.mcause;
    case kMtval: return h.mtval;
    case kMip: return h.interrupts();
    case kMcycle:
    case kCycle: return cycles() + h.cycle_offset;
    case kMinstret:
    case kInstret: return cycles() + h.instret_offset;
    case kTime: return clock_.ticks(now());
    case kMhartid: return h.id;
    default: return 0;  // Identification, and performance counters that count nothing.
  }
}

void Core::write_mstatus(std::uint64_t value, std::uint64_t mask) {
  const std::uint64_t before = hart.mstatus;
  if ((value & kMpp) == bit(kMppShift + 1)) mask &= ~kMpp;  // Mode 2 does not exist.
  hart.mstatus = (before & ~mask) | (value & mask);
  if (((before ^ hart.mstatus) & kMxr) != 0) drop_all();
}

Core::Outcome Core::write_satp(std::uint64_t value) {
  const std::uint64_t mode = value >> 60;
  if (mode != 0 && mode != 8) return Outcome::done;  // 4.1.11: the whole write has no effect.
  if (value != hart.satp) drop_all();
  hart.satp = value;
  return Outcome::refetch;
}

void Core::write_counter(unsigned number, std::uint64_t value) {
  // The write takes the place of the instruction's own increment: the next one reads `value`.
  (number == kMcycle ? hart.cycle_offset : hart.instret_offset) = value - cycles() - 1;
}

Core::Outcome Core::write_csr(unsigned number, std::uint64_t value) {
  Hart& h = hart;
  const auto some = [](std::uint64_t old, std::uint64_t fresh, std::uint64_t mask) {
    return (old & ~mask) | (fresh & mask);
  };
  switch (number) {
    case kSstatus: write_mstatus(value, kSstatusWrite); return Outcome::refetch;
    case kMstatus: write_mstatus(value, kMstatusWrite); return Outcome::refetch;
    case kSatp: return write_satp(value);
    case kSieCsr: h.mie = some(h.mie, value, h.mideleg & kSupervisorInterrupts); break;
    case kMieCsr: h.mie = value & (kSupervisorInterrupts | kMachineInterrupts); break;
    case kSip: h.pending = some(h.pending, value, h.mideleg & bit(kSupervisorSoftware)); break;
    case kMip: h.pending = some(h.pending, value, kSupervisorInterrupts); break;
    case kMideleg: h.mideleg = value & kSupervisorInterrupts; break;
    case kMedeleg: h.medeleg = value & kDelegable; break;
    case kStvec:
      if ((value & 3) < 2) h.stvec = value;
      return Outcome::done;
    case kMtvec:
      if ((value & 3) < 2) h.mtvec = value;
      return Outcome::done;
    case kScounteren: h.scounteren = value & 0xffffffff; return Outcome::done;
    case kMcounteren: h.mcounteren = value & 0xffffffff; return Outcome::done;
    case kMcountinhibit: return Outcome::done;  // Counters always count.
    case kSenvcfg: h.senvcfg = value & kFenceOfIo; return Outcome::done;
    case kMenvcfg: h.menvcfg = value & kFenceOfIo; return Outcome::done;
    case kSscratch: h.sscratch = value; return Outcome::done;
    case kMscratch: h.mscratch = value; return Outcome::done;
    case kSepc: h.sepc = value & ~std::uint64_t{1}; return Outcome::done;
    case kMepc: h.mepc = value & ~std::uint64_t{1}; return Outcome::done;
    case kScause: h.scause = value; return Outcome::done;
    case kMcause: h.mcause = value; return Outcome::done;
    case kStval: h.stval = value; return Outcome::done;
    case kMtval: h.mtval = value; return Outcome::done;
    case kMcycle:
    case kMinstret: write_counter(number, value); return Outcome::done;
    default: return Outcome::done;
  }
  return Outcome::refetch;
}

}  // namespace libft::machine
