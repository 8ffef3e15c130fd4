// SPDX-License-Identifier: LGPL-2.1-or-later
#include "program.h"

#include <array>
#include <random>

#include "assembler.h"
#include "guest/machine/decode.h"

namespace libft::test {

namespace {

using machine::Instruction;
using machine::Operation;

// The image: code, handlers, page tables, data. Supervisor mode sees it where it is; user mode at
// kUserBase instead of kProgramBase. Only the lowest 30 bits tell places apart.
constexpr std::size_t kMachineHandler = 0xf000, kSupervisorHandler = 0xf800, kRoot = 0x10000,
                      kMiddle = 0x11000, kLeaves = 0x12000, kUserMiddle = 0x13000,
                      kUserLeaves = 0x14000, kData = 0x100000, kImageBytes = 0x110000;
constexpr std::uint64_t kUserBase = 0xc0000000;  // Also memory, where there is no translation.
constexpr unsigned kDataPages = 16;
constexpr std::uint64_t kSv39 = std::uint64_t{8} << 60;

// Registers with a duty: bases of the data, and where to go when a fetch fails.
constexpr unsigned kBase = 8, kUserDataBase = 9, kLanding = 31;
// What an ECALL asks of the handler, in a7: a mode, or to store a5 to the address in a6.
constexpr unsigned kA5 = 15, kA6 = 16, kA7 = 17;
constexpr int kStoreEntry = 0x5a4;

// QEMU's mideleg also has bits of extensions that are switched off.
constexpr std::uint64_t kInterrupts = 0xaaa;

constexpr std::uint64_t entry_for(std::uint64_t address, std::uint64_t flags) {
  return address >> 12 << 10 | flags;
}

class Generator {
 public:
  Generator(std::uint64_t seed, unsigned pieces)
      : random_(seed), image_(kImageBytes), code_(image_, 0), pieces_(pieces) {}

  std::vector<std::byte> make() {
    tables();
    data();
    machine_handler();
    supervisor_handler();
    prologue();
    for (unsigned i = 0; i < pieces_ && code_.at() < kMachineHandler - 256; ++i) piece();
    ending();
    return std::move(image_);
  }

 private:
  std::uint64_t random(std::uint64_t below) { return random_() % below; }
  bool one_in(unsigned n) { return random(n) == 0; }
  unsigned any() { return static_cast<unsigned>(random(32)); }
  // A register that may be written.
  unsigned target() {
    for (;;) {
      const unsigned rd = any();
      if (rd != kBase && rd != kUserDataBase && rd != kLanding) return rd;
    }
  }
  int imm12() { return static_cast<int>(random(4096)) - 2048; }

  std::uint64_t interesting() {
    switch (random(6)) {
      case 0: return random_();
      case 1: return random(64);
      case 2: return 0 - random(64);
      case 3: return std::uint64_t{1} << random(64);
      case 4: return (std::uint64_t{1} << random(64)) - 1;
      default: return random_() & 0xffffffff;
    }
  }

  void put64(std::size_t at, std::uint64_t value) {
    std::memcpy(image_.data() + at, &value, sizeof value);
  }

  void tables() {
    put64(kRoot + 2 * 8, entry_for(kProgramBase + kMiddle, 1));
    put64(kRoot + 3 * 8, entry_for(kProgramBase + kUserMiddle, 1));
    put64(kRoot + 6 * 8, entry_for(kProgramBase, 0xcf));            // A page of 1 GiB,
    put64(kMiddle + 8, entry_for(kProgramBase + 0x200000, 0xcf));   // one of 2 MiB,
    put64(kMiddle + 16, entry_for(kProgramBase + 0x201000, 0xcf));  // and a crooked one.
    put64(kMiddle, entry_for(kProgramBase + kLeaves, 1));
    put64(kUserMiddle, entry_for(kProgramBase + kUserLeaves, 1));
    for (std::size_t page = 0; page < kData / 4096; ++page) {
      const std::uint64_t at = kProgramBase + page * 4096;
      put64(kLeaves + page * 8, entry_for(at, 0xcf));
      put64(kUserLeaves + page * 8, entry_for(at, 0xdf));
    }
    for (std::size_t page = 0; page < kDataPages; ++page) {
      const std::size_t index = kData / 4096 + page;
      const std::uint64_t at = kProgramBase + kData + page * 4096;
      put64(kLeaves + index * 8, entry_for(at, one_in(3) ? random(256) & ~0x10u : 0x07));
      put64(kUserLeaves + index * 8, entry_for(at, one_in(3) ? random(256) | 0x10u : 0x17));
    }
  }

  void data() {
    for (std::size_t at = kData; at < kImageBytes; at += 8) put64(at, interesting());
  }

  void prologue() {
    code_.load_constant(5, kProgramBase + kMachineHandler);
    code_.csrw(0x305, 5);
    code_.load_constant(5, kProgramBase + kSupervisorHandler);
    code_.csrw(0x105, 5);
    code_.load_constant(5, kSv39 | random(16) << 44 | (kProgramBase + kRoot) >> 12);
    code_.csrw(0x180, 5);
    // Calls stay with machine mode: they are how the program changes its mode.
    // QEMU reports some faults of an AMO as a load's: the same handler gets both.
    const std::uint64_t faults = one_in(2) ? 0xa0f0 : 0;
    code_.load_constant(5, one_in(4) ? 0 : (random_() & 0x500f) | faults);
    code_.csrw(0x302, 5);
    code_.load_constant(5, random_() & kInterrupts);
    code_.csrw(0x303, 5);
    for (unsigned rd = 1; rd < 32; ++rd) code_.load_constant(rd, interesting());
    code_.load_constant(kBase, kProgramBase + kData + 0x8000);
    code_.load_constant(kUserDataBase, kUserBase + kData + 0x8000);
    land_here();
  }

  // x31 = the next instruction.
  void land_here() {
    code_.auipc(kLanding, 0);
    code_.addi(kLanding, kLanding, 8);
  }

  // x6 becomes the same place as mode x5 sees it.
  static void place_for_mode(Assembler& a) {
    a.slli(6, 6, 34);
    a.srli(6, 6, 34);
    a.addi(7, 0, 2);
    a.b(1, 5, 0, 8);
    a.addi(7, 0, 3);
    a.slli(7, 7, 30);
    a.r(0x33, 0, 0, 6, 6, 7);
  }

  void machine_handler() {
    Assembler a(image_, kMachineHandler);
    a.lui(5, 0x20);
    a.csr(3, 0, 0x300, 5);  // No MPRV.
    a.csrr(5, 0x342);
    a.csrr(6, 0x341);
    const std::size_t to_interrupt = a.mark();
    a.skip(4);
    std::array<std::size_t, 2> to_landing{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.addi(7, 0, i == 0 ? 1 : 12);
      to_landing[i] = a.mark();
      a.skip(4);
    }
    a.addi(6, 6, 4);
    std::array<std::size_t, 3> to_call{};
    for (std::size_t i = 0; i < 3; ++i) {
      a.addi(7, 0, i == 0 ? 8 : i == 1 ? 9 : 11);
      to_call[i] = a.mark();
      a.skip(4);
    }
    std::vector<std::size_t> to_done{a.mark()};
    a.skip(4);

    for (const std::size_t from : to_landing) a.branch_to_here(from, 0, 5, 7);
    a.addi(6, kLanding, 0);
    to_done.push_back(a.mark());
    a.skip(4);

    a.branch_to_here(to_interrupt, 4, 5, 0);
    a.csrw(0x304, 0);
    a.csrw(0x344, 0);
    to_done.push_back(a.mark());
    a.skip(4);

    for (const std::size_t from : to_call) a.branch_to_here(from, 0, 5, 7);
    a.addi(7, 0, kStoreEntry);
    const std::size_t to_mode = a.mark();
    a.skip(4);
    a.i(0x13, 7, kA6, kA6, -8);
    a.s(3, kA6, kA5, 0);
    a.word(0x12000073);  // sfence.vma
    to_done.push_back(a.mark());
    a.skip(4);
    a.branch_to_here(to_mode, 1, kA7, 7);
    a.lui(5, 2);
    a.addi(5, 5, -0x800);
    a.csr(3, 0, 0x300, 5);
    a.slli(7, kA7, 11);
    a.r(0x33, 7, 0, 7, 7, 5);
    a.csr(2, 0, 0x300, 7);

    for (const std::size_t from : to_done) a.jump_to_here(from);
    a.csrr(5, 0x300);
    a.srli(5, 5, 11);
    a.i(0x13, 7, 5, 5, 3);
    place_for_mode(a);
    a.csrw(0x341, 6);
    a.word(0x30200073);  // mret
  }

  void supervisor_handler() {
    Assembler a(image_, kSupervisorHandler);
    a.csrr(5, 0x142);
    a.csrr(6, 0x141);
    const std::size_t to_interrupt = a.mark();
    a.skip(4);
    std::array<std::size_t, 2> to_landing{};
    for (std::size_t i = 0; i < 2; ++i) {
      a.addi(7, 0, i == 0 ? 1 : 12);
      to_landing[i] = a.mark();
      a.skip(4);
    }
    a.addi(6, 6, 4);
    std::vector<std::size_t> to_done{a.mark()};
    a.skip(4);
    for (const std::size_t from : to_landing) a.branch_to_here(from, 0, 5, 7);
    a.addi(6, kLanding, 0);
    to_done.push_back(a.mark());
    a.skip(4);
    a.branch_to_here(to_interrupt, 4, 5, 0);
    a.csrw(0x104, 0);
    a.csrw(0x144, 0);
    for (const std::size_t from : to_done) a.jump_to_here(from);
    a.csrr(5, 0x100);
    a.i(0x13, 7, 5, 5, 0x100);
    place_for_mode(a);
    a.csrw(0x141, 6);
    a.word(0x10200073);  // sret: with TSR it traps, and execution arrives behind it.
    a.addi(kA7, 0, 3);
    a.word(0x73);
    a.addi(6, kLanding, 0);
    a.addi(5, 0, 3);
    place_for_mode(a);
    a.jalr(0, 6, 0);
  }

  void ending() {
    code_.addi(kA7, 0, 3);
    code_.word(0x73);
    code_.addi(kA7, 0, 3);
    code_.word(0x73);  // Once more: the first may have been swallowed by a trap of its own.
    code_.lui(5, 0x20);
    code_.csr(3, 0, 0x300, 5);
    code_.lui(5, 0x100);
    code_.lui(6, 5);
    code_.addi(6, 6, 0x555);
    code_.s(2, 5, 6, 0);
    code_.jal(0, 0);
  }

  void piece() {
    switch (random(16)) {
      case 0:
      case 1:
      case 2: register_arithmetic(); break;
      case 3:
      case 4: immediate_arithmetic(); break;
      case 5:
      case 6: compressed(); break;
      case 7:
      case 8: memory_access(); break;
      case 9: atomic_access(); break;
      case 10: branch(); break;
      case 11: jump(); break;
      case 12:
      case 13: control_register(); break;
      case 14: system(); break;
      default: rare(); break;
    }
  }

  void register_arithmetic() {
    if (one_in(4)) code_.load_constant(1 + static_cast<unsigned>(random(7)), interesting());
    const unsigned f7 = one_in(2) ? 1 : one_in(2) ? 0x20 : 0;
    if (one_in(2)) {
      static constexpr std::array<unsigned, 5> kWordMultiply{0, 4, 5, 6, 7}, kWord{0, 1, 5, 0, 5};
      const unsigned f3 = f7 == 1 ? kWordMultiply[random(5)] : kWord[random(3)];
      code_.r(0x3b, f7 == 0x20 && f3 == 1 ? 0 : f3, f7, target(), any(), any());
      return;
    }
    const auto f3 = static_cast<unsigned>(random(8));
    code_.r(0x33, f7 == 0x20 ? (f3 & 1) * 5 : f3, f7, target(), any(), any());
  }

  void immediate_arithmetic() {
    const auto f3 = static_cast<unsigned>(random(8));
    const int shift = static_cast<int>(random(64));
    switch (random(5)) {
      case 0:
        if (f3 == 1 || f3 == 5) {
          code_.i(0x1b, f3, target(), any(), (shift & 31) | (f3 == 5 && one_in(2) ? 0x400 : 0));
        } else {
          code_.i(0x1b, 0, target(), any(), imm12());
        }
        break;
      case 1: code_.lui(target(), static_cast<std::uint32_t>(random(1 << 20))); break;
      case 2: code_.auipc(target(), static_cast<std::uint32_t>(random(1 << 20))); break;
      default:
        if (f3 == 1 || f3 == 5) {
          code_.i(0x13, f3, target(), any(), shift | (f3 == 5 && one_in(2) ? 0x400 : 0));
        } else {
          code_.i(0x13, f3, target(), any(), imm12());
        }
    }
  }

  static bool is_memory(Operation operation) {
    return operation >= Operation::lb && operation <= Operation::sd;
  }
  static bool is_jump(Operation operation) {
    return operation >= Operation::jal_near && operation <= Operation::bgeu_far;
  }
  static bool writes_duty(const Instruction& in) {
    const bool stores = in.operation >= Operation::sb && in.operation <= Operation::sd;
    return !stores && (in.rd == kBase || in.rd == kUserDataBase || in.rd == kLanding);
  }

  // Behind each one stands a c.nop, which a handler that goes on after four bytes steps over.
  void compressed() {
    for (int tries = 0; tries < 64; ++tries) {
      const auto bits = static_cast<std::uint16_t>(random_());
      if (!machine::is_compressed(bits)) continue;
      const Instruction in = machine::decode(bits);
      if (is_jump(in.operation) || writes_duty(in)) continue;
      if (is_memory(in.operation) && in.rs1 != kBase && in.rs1 != kUserDataBase) continue;
      if (in.operation == Operation::illegal && !one_in(8)) continue;
      code_.half(bits);
      code_.half(0x0001);
      return;
    }
  }

  void memory_access() {
    const unsigned base = one_in(3) ? kUserDataBase : kBase;
    const auto f3 = static_cast<unsigned>(random(8));
    int offset = imm12();
    if (one_in(16)) {  // To nowhere, and not to where QEMU has devices.
      code_.i(0x13, 7, 30, any(), -8);
      if (one_in(2)) {
        code_.lui(29, 0x80000);
      } else {
        code_.addi(29, 0, 1);
        code_.slli(29, 29, 40 + static_cast<int>(random(24)));
      }
      code_.r(0x33, 6, 0, 30, 30, 29);
      access(f3, 30, offset & ~7);
      return;
    }
    if (one_in(3)) {  // Another page: the base lies in the middle.
      code_.lui(30, (static_cast<std::uint32_t>(random(16)) - 8u) & 0xfffff);
      code_.r(0x33, 0, 0, 30, 30, base);
      offset = one_in(3) ? static_cast<int>(random(16)) - 8 : offset;
      access(f3, 30, offset);
      return;
    }
    if (!one_in(4)) offset &= ~7;
    access(f3, base, offset);
  }

  void access(unsigned f3, unsigned base, int offset) {
    if (one_in(2)) {
      code_.i(0x03, f3, target(), base, offset);  // f3 7 is illegal.
    } else {
      code_.s(f3 & 3, base, any(), offset);
    }
  }

  void atomic_access() {
    static constexpr std::array<unsigned, 9> kFunctions{0x00, 0x01, 0x04, 0x08, 0x0c,
                                                        0x10, 0x14, 0x18, 0x1c};
    const unsigned wide = one_in(2) ? 3 : 2;
    const unsigned order = static_cast<unsigned>(random(4));
    int offset = imm12() & ~7;
    if (one_in(16)) offset += static_cast<int>(random(8));
    code_.addi(30, one_in(3) ? kUserDataBase : kBase, offset);
    if (!one_in(4)) {
      code_.r(0x2f, wide, kFunctions[random(9)] << 2 | order, target(), 30, any());
      return;
    }
    // Reserved by this one or by nobody: what becomes of older reservations is left to whoever
    // implements it.
    if (!one_in(4)) code_.r(0x2f, wide, 0x02u << 2 | order, 29, 30, 0);
    if (one_in(3)) code_.addi(28, 28, 1);
    code_.r(0x2f, wide, 0x03u << 2 | order, 29, 30, any());
  }

  void branch() {
    static constexpr std::array<unsigned, 6> kKinds{0, 1, 4, 5, 6, 7};
    const int over = static_cast<int>(random(3)) + 1;
    code_.b(kKinds[random(6)], any(), one_in(3) ? 0 : any(), 4 + 4 * over);
    for (int i = 0; i < over; ++i) code_.addi(target(), any(), imm12());
  }

  void jump() {
    switch (random(4)) {
      case 0:
        code_.jal(target(), 8);
        code_.addi(target(), any(), imm12());
        break;
      case 1:  // c.j, over one instruction.
        code_.half(0xa011 | 0);
        code_.half(0x0001);
        break;
      case 2:
        code_.auipc(7, 0);
        code_.jalr(one_in(2) ? 1 : 7, 7, static_cast<int>(12 + random(2)));
        code_.addi(target(), any(), imm12());
        break;
      default:  // To nowhere, mostly.
        code_.auipc(kLanding, 0);
        code_.addi(kLanding, kLanding, 12);
        code_.jalr(target(), target(), imm12());
    }
  }

  // What may be written so that QEMU and the specification agree.
  static std::uint64_t bits_of(unsigned number) {
    switch (number) {
      case 0x104:
      case 0x144:
      case 0x303:
      case 0x304:
      case 0x344: return kInterrupts;
      case 0x141:
      case 0x341: return ~std::uint64_t{1};  // QEMU keeps the lowest bit.
      case 0x100:
      case 0x300: return 0x7c01aa;  // QEMU takes more; MPP is the handlers' business.
      case 0x106:
      case 0x306: return 0xffffffff;
      case 0x10a:
      case 0x30a: return 1;  // QEMU has fields of extensions that are switched off.
      default: return ~std::uint64_t{0};
    }
  }

  void control_register() {
    static constexpr std::array<unsigned, 30> kNumbers{
        0x100, 0x104, 0x106, 0x140, 0x141, 0x142, 0x143, 0x144, 0x300, 0x301,
        0x303, 0x304, 0x306, 0x340, 0x341, 0x342, 0x343, 0x344, 0xf11, 0xf12,
        0xf13, 0xf14, 0x30a, 0x10a, 0x105, 0x305, 0x180, 0x3a0, 0x7c0, 0x302};
    const unsigned number = kNumbers[random(kNumbers.size())];
    // Those decide whether the program survives: read only.
    const bool vital = number == 0x105 || number == 0x305 || number == 0x180 || number == 0x302;
    const auto f3 = static_cast<unsigned>(random(3)) + 1 + (one_in(2) ? 4 : 0);
    const std::uint64_t some = bits_of(number);
    if (vital || one_in(3)) {
      code_.csr(2, target(), number, 0);
    } else if (some != ~std::uint64_t{0}) {
      code_.load_constant(29, interesting() & some);
      code_.csr((f3 & 3), target(), number, 29);
    } else {
      if (one_in(3)) code_.load_constant(29, interesting());
      // QEMU takes a set or clear of no bits for no write, whatever the register's number.
      const bool read_only = number >> 10 == 3;
      code_.csr(f3, target(), number, read_only ? kBase : one_in(2) ? 29 : any());
    }
  }

  void system() {
    switch (random(8)) {
      case 0: code_.word(0x00100073); break;                   // ebreak
      case 1: code_.word(0x0ff0000f); break;                   // fence
      case 2: code_.word(0x0000100f); break;                   // fence.i
      case 3: code_.r(0x73, 0, 0x09, 0, any(), any()); break;  // sfence.vma
      case 4: illegal_word(); break;
      case 5: return_from_trap(); break;
      default: change_mode(); break;
    }
  }

  // Something that is not in the standard, of four bytes.
  void illegal_word() {
    for (;;) {
      const auto bits = static_cast<std::uint32_t>(random_()) | 3;
      const std::uint32_t major = bits & 0x7f;
      // Not those that QEMU knows more of: fences and hints of major opcode 0x0f, and system.
      if ((bits & 0x1c) == 0x1c || major == 0x0f || major == 0x73) continue;
      if (machine::decode(bits).operation != Operation::illegal) continue;
      code_.word(bits);
      return;
    }
  }

  void change_mode() {
    static constexpr std::array<int, 3> kModes{0, 1, 3};
    code_.addi(kA7, 0, kModes[random(3)]);
    code_.word(0x73);
  }

  // Only around an access to data: with MPRV set, QEMU lets machine mode read pages that it has
  // fetched from.
  void access_as_previous_mode() {
    code_.lui(28, 0x20);
    code_.csr(2, 0, 0x300, 28);
    access(static_cast<unsigned>(random(8)), one_in(2) ? kUserDataBase : kBase, imm12());
    code_.lui(28, 0x20);
    code_.csr(3, 0, 0x300, 28);
  }

  void return_from_trap() {
    const bool machine = one_in(2);
    code_.auipc(6, 0);
    code_.addi(6, 6, 20);
    code_.csrw(machine ? 0x341 : 0x141, 6);
    land_after(8);
    code_.word(machine ? 0x30200073 : 0x10200073);
  }
  void land_after(int bytes) { code_.addi(kLanding, 6, bytes - 8); }

  void rare() {
    switch (random(3)) {
      case 0: change_entry(); break;
      case 1: modify_code(); break;
      default: access_as_previous_mode();
    }
  }

  void change_entry() {
    const std::size_t index = kData / 4096 + random(kDataPages);
    const std::size_t table = one_in(2) ? kLeaves : kUserLeaves;
    std::uint64_t flags = random(256);
    if (one_in(2)) flags |= 0x07;
    if (!one_in(4)) flags = table == kLeaves ? flags & ~std::uint64_t{0x10} : flags | 0x10;
    std::uint64_t entry = entry_for(kProgramBase + kData + random(kDataPages) * 4096, flags);
    if (one_in(8)) entry |= std::uint64_t{1} << (54 + random(10));
    code_.load_constant(kA5, entry);
    code_.load_constant(kA6, kProgramBase + table + index * 8);
    code_.addi(kA7, 0, kStoreEntry);
    code_.word(0x73);
  }

  // Replaces an instruction that comes soon.
  void modify_code() {
    const unsigned rd = target();
    code_.load_constant(6, 0x13 | rd << 7 | static_cast<std::uint32_t>(random(4096)) << 20);
    code_.auipc(7, 0);
    code_.s(2, 7, 6, 12);
    code_.word(0x0000100f);
    code_.word(0x00000013);
  }

  std::mt19937_64 random_;
  std::vector<std::byte> image_;
  Assembler code_;
  unsigned pieces_;
};

}  // namespace

bool left_program(std::uint64_t pc) { return pc < kProgramBase || (pc & 0x3fffffff) >= kRoot; }

std::vector<std::byte> generate_program(std::uint64_t seed, unsigned pieces) {
  return Generator(seed, pieces).make();
}

}  // namespace libft::test
