// SPDX-License-Identifier: LGPL-2.1-or-later
// Generated programs, executed by qemu-system-riscv64 and by the machine, compared after each
// instruction: all registers, and all control registers that QEMU's log shows.
// LIBFT_DIFFERENTIAL_SEED=n runs one program; LIBFT_DIFFERENTIAL_PROGRAMS=n more of them.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>

#include "guest/machine/core.h"
#include "program.h"
#include "qemu_trace.h"

using namespace libft;
using machine::Core;
using machine::Hart;

namespace {

constexpr std::uint64_t kMemory = std::uint64_t{2} << 30;
constexpr unsigned kPieces = 1500;
constexpr std::uint64_t kStepsMax = 12000;
constexpr std::uint64_t kTestDevice = 0x100000;
constexpr std::uint64_t kMachineTimerLine = machine::bit(machine::kMachineTimer);

class TestDevice final : public machine::Device {
 public:
  bool written = false;
  std::uint64_t load(std::uint64_t, unsigned) override { return 0; }
  void store(std::uint64_t, unsigned, std::uint64_t) override { written = true; }
};

using Registers = std::map<std::string, std::uint64_t>;

Registers registers_of(const Hart& hart) {
  return {{"pc", hart.pc},
          {"mhartid", hart.id},
          {"mstatus", hart.mstatus},
          {"mip", hart.interrupts()},
          {"mie", hart.mie},
          {"mideleg", hart.mideleg},
          {"medeleg", hart.medeleg},
          {"mtvec", hart.mtvec},
          {"stvec", hart.stvec},
          {"mepc", hart.mepc},
          {"sepc", hart.sepc},
          {"mcause", hart.mcause},
          {"scause", hart.scause},
          {"mtval", hart.mtval},
          {"stval", hart.stval},
          {"mscratch", hart.mscratch},
          {"sscratch", hart.sscratch},
          {"satp", hart.satp}};
}

std::string difference(const test::TracedState& theirs, const Hart& hart) {
  std::string text;
  const Registers ours = registers_of(hart);
  for (const auto& [name, value] : theirs.csr) {
    const auto found = ours.find(name);
    if (found == ours.end()) {
      text += fmt::format("\n  {}: not compared", name);
    } else if (found->second != value) {
      text += fmt::format("\n  {}: QEMU {:x}, machine {:x}", name, value, found->second);
    }
  }
  for (std::size_t i = 0; i < 32; ++i) {
    if (theirs.x[i] != hart.x[i])
      text += fmt::format("\n  x{}: QEMU {:x}, machine {:x}", i, theirs.x[i], hart.x[i]);
  }
  return text;
}

struct Comparison {
  std::uint64_t steps = 0;
  bool ended = false;
  std::string difference;
  std::set<std::pair<machine::Mode, std::uint64_t>> traps;  // From which mode, and why.
};

// Begins where QEMU's boot ROM hands over.
bool take_over(test::QemuTrace& trace, Hart& hart) {
  while (const auto state = trace.next()) {
    if (state->pc != test::kProgramBase) continue;
    std::copy(state->x.begin(), state->x.end(), hart.x.begin());
    hart.lines = state->csr.at("mip") & kMachineTimerLine;
    hart.pc = state->pc;
    return true;
  }
  return false;
}

// QEMU logs no state before an instruction that it cannot fetch; here that is a step like any
// other.
void fail_fetches(Core& core, std::uint64_t until, std::uint64_t& steps) {
  for (int tries = 0; tries < 4 && core.hart.pc != until; ++tries) {
    const std::uint64_t pc = core.hart.pc;
    core.run(1, steps++);
    const bool to_machine = core.hart.mode == machine::Mode::machine;
    const std::uint64_t cause = to_machine ? core.hart.mcause : core.hart.scause;
    const bool fetch = cause == static_cast<std::uint64_t>(machine::Cause::fetch_page) ||
                       cause == static_cast<std::uint64_t>(machine::Cause::fetch_access);
    if (!fetch || (to_machine ? core.hart.mepc : core.hart.sepc) != pc) return;
  }
}

std::uint32_t instruction_at(const machine::Memory& memory, std::uint64_t pc) {
  std::uint32_t bits = 0;
  const std::uint64_t place = test::kProgramBase | (pc & 0x3fffffff);
  if (memory.contains(place, 4)) std::memcpy(&bits, memory.at(place), 4);
  return bits;
}

std::string where(const machine::Memory& memory, std::uint64_t pc) {
  return fmt::format("instruction {:08x} at {:x}", instruction_at(memory, pc), pc);
}

bool is_atomic(const machine::Memory& memory, std::uint64_t pc) {
  return (instruction_at(memory, pc) & 0x7f) == 0x2f;
}

// QEMU without threads executes an AMO as a load and a store, and reports the load's fault where
// volume II, 3.1.15 wants the store's.
void report_as_load(Hart& hart, const test::TracedState& theirs) {
  const auto adopt = [](std::uint64_t& ours, std::uint64_t cause) {
    if (cause + 2 == ours && (cause == 4 || cause == 5 || cause == 13)) ours = cause;
  };
  adopt(hart.mcause, theirs.csr.at("mcause"));
  adopt(hart.scause, theirs.csr.at("scause"));
}

// QEMU splits a misaligned access, and reports the address of the part that it rounded down.
void round_reported_address(Hart& hart, const test::TracedState& theirs) {
  const auto adopt = [](std::uint64_t& ours, std::uint64_t value, std::uint64_t cause) {
    if ((cause == 5 || cause == 7) && ours / 8 == value / 8) ours = value;
  };
  adopt(hart.mtval, theirs.csr.at("mtval"), hart.mcause);
  adopt(hart.stval, theirs.csr.at("stval"), hart.scause);
}

// A program that jumped into the middle of its own pieces may reach what the two do not share:
// QEMU's devices, and fields of mstatus that QEMU keeps for extensions that are switched off.
bool beside_the_point(const Hart& hart, const test::TracedState& theirs) {
  constexpr std::uint64_t kShared = 0xf007e19aa;
  const bool faulted = hart.mcause == static_cast<std::uint64_t>(machine::Cause::load_access) ||
                       hart.mcause == static_cast<std::uint64_t>(machine::Cause::store_access);
  const bool device =
      faulted && hart.mtval < test::kProgramBase && theirs.csr.at("mtval") != hart.mtval;
  return device || ((theirs.csr.at("mstatus") ^ hart.mstatus) & ~kShared) != 0;
}

Comparison compare(std::uint64_t seed) {
  const std::vector<std::byte> image = test::generate_program(seed, kPieces);
  const std::string file = fmt::format("differential-{}-{}.bin", ::getpid(), seed);
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(image.data()),
             static_cast<std::streamsize>(image.size()));
  auto started = test::QemuTrace::start(file);
  machine::Memory memory(test::kProgramBase, kMemory);
  memory.write(test::kProgramBase, image);
  machine::Bus bus;
  TestDevice device;
  bus.add(kTestDevice, 0x1000, device);
  Core core(memory, bus, {}, false);
  Comparison result;
  if (!started) {
    result.difference = started.error().message();
    return result;
  }
  test::QemuTrace& trace = **started;
  if (!take_over(trace, core.hart)) result.difference = "QEMU did not begin";
  while (result.difference.empty() && !device.written && result.steps < kStepsMax) {
    const std::uint64_t pc = core.hart.pc;
    const machine::Mode mode = core.hart.mode;
    if (test::left_program(pc)) break;
    const std::uint64_t causes = core.hart.mcause ^ core.hart.scause << 8;
    core.run(1, result.steps++);
    if ((core.hart.mcause ^ core.hart.scause << 8) != causes)
      result.traps.insert(
          {mode, core.hart.mode == machine::Mode::machine ? core.hart.mcause : core.hart.scause});
    if (device.written) break;
    const auto theirs = trace.next();
    if (!theirs) {
      result.difference = "QEMU ended";
    } else {
      fail_fetches(core, theirs->pc, result.steps);
      if (is_atomic(memory, pc)) report_as_load(core.hart, *theirs);
      round_reported_address(core.hart, *theirs);
      result.difference = difference(*theirs, core.hart);
    }
    if (theirs && beside_the_point(core.hart, *theirs)) {
      result.difference.clear();
      break;
    }
    if (!result.difference.empty())
      result.difference = fmt::format("seed {}, step {}, {}, mode {}:{}", seed, result.steps,
                                      where(memory, pc), static_cast<int>(mode), result.difference);
  }
  result.ended = device.written;
  std::remove(file.c_str());
  return result;
}

std::uint64_t number_from(const char* variable, std::uint64_t usual) {
  const char* text = std::getenv(variable);
  return text == nullptr ? usual : std::strtoull(text, nullptr, 10);
}

}  // namespace

TEST_CASE("generated programs do the same under QEMU, instruction by instruction") {
  if (!test::QemuTrace::available()) {
    std::puts("skipped: the machine is not compared with QEMU: no qemu-system-riscv64");
    std::exit(77);
  }
  const std::uint64_t first = number_from("LIBFT_DIFFERENTIAL_SEED", 1);
  const bool one = std::getenv("LIBFT_DIFFERENTIAL_SEED") != nullptr;
  const std::uint64_t programs = one ? 1 : number_from("LIBFT_DIFFERENTIAL_PROGRAMS", 40);
  std::uint64_t steps = 0;
  std::set<std::pair<machine::Mode, std::uint64_t>> traps;
  for (std::uint64_t seed = first; seed < first + programs; ++seed) {
    const Comparison result = compare(seed);
    CHECK_MESSAGE(result.difference.empty(), result.difference);
    steps += result.steps;
    traps.insert(result.traps.begin(), result.traps.end());
  }
  std::printf("%llu instructions compared, %zu kinds of traps (by mode)\n",
              static_cast<unsigned long long>(steps), traps.size());
  if (!one) CHECK(steps > 4000 * programs);
  if (!one && programs >= 40) CHECK(traps.size() >= 30);
}
