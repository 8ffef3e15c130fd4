// SPDX-License-Identifier: LGPL-2.1-or-later
// The C extension (volume I, chapter 16): each compressed instruction is one of the base set.
#include "decode.h"

namespace libft::machine {

namespace {

constexpr std::uint32_t kLoad = 0x03, kImm = 0x13, kImm32 = 0x1b, kStore = 0x23, kReg = 0x33,
                        kLui = 0x37, kReg32 = 0x3b, kBranch = 0x63, kJalr = 0x67, kJal = 0x6f;

// Bits `high` to `low` of the instruction, moved to begin at bit `to`.
class Fields {
 public:
  explicit Fields(std::uint32_t bits) : bits_(bits) {}
  std::uint32_t operator()(unsigned high, unsigned low, unsigned to = 0) const {
    return ((bits_ >> low) & ((1u << (high - low + 1)) - 1)) << to;
  }
  std::uint32_t sign(unsigned from) const { return bits_ & 0x1000 ? ~0u << from : 0; }
  std::uint32_t short_rd() const { return 8 + (*this)(4, 2); }
  std::uint32_t short_rs1() const { return 8 + (*this)(9, 7); }
  std::uint32_t imm6() const { return sign(5) | (*this)(6, 2); }
  std::uint32_t shift6() const { return (*this)(12, 12, 5) | (*this)(6, 2); }

 private:
  std::uint32_t bits_;
};

std::uint32_t i_type(std::uint32_t opcode, std::uint32_t funct3, std::uint32_t rd,
                     std::uint32_t rs1, std::uint32_t imm) {
  return opcode | rd << 7 | funct3 << 12 | rs1 << 15 | imm << 20;
}

std::uint32_t s_type(std::uint32_t funct3, std::uint32_t rs1, std::uint32_t rs2,
                     std::uint32_t imm) {
  return kStore | (imm & 31) << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | (imm >> 5 & 127) << 25;
}

std::uint32_t r_type(std::uint32_t opcode, std::uint32_t funct3, std::uint32_t funct7,
                     std::uint32_t rd, std::uint32_t rs1, std::uint32_t rs2) {
  return opcode | rd << 7 | funct3 << 12 | rs1 << 15 | rs2 << 20 | funct7 << 25;
}

std::uint32_t jump(std::uint32_t rd, std::uint32_t imm) {
  return kJal | rd << 7 | (imm & 0xff000) | (imm >> 11 & 1) << 20 | (imm >> 1 & 0x3ff) << 21 |
         (imm >> 20 & 1) << 31;
}

std::uint32_t branch(std::uint32_t funct3, std::uint32_t rs1, std::uint32_t imm) {
  return kBranch | (imm >> 11 & 1) << 7 | (imm >> 1 & 15) << 8 | funct3 << 12 | rs1 << 15 |
         (imm >> 5 & 63) << 25 | (imm >> 12 & 1) << 31;
}

std::uint32_t quadrant0(const Fields& f) {
  const std::uint32_t word = f(12, 10, 3) | f(6, 6, 2) | f(5, 5, 6);
  const std::uint32_t twice = f(12, 10, 3) | f(6, 5, 6);
  switch (f(15, 13)) {
    case 0: {
      const std::uint32_t imm = f(10, 7, 6) | f(12, 11, 4) | f(5, 5, 3) | f(6, 6, 2);
      return imm == 0 ? 0 : i_type(kImm, 0, f.short_rd(), 2, imm);  // c.addi4spn
    }
    case 2: return i_type(kLoad, 2, f.short_rd(), f.short_rs1(), word);
    case 3: return i_type(kLoad, 3, f.short_rd(), f.short_rs1(), twice);
    case 6: return s_type(2, f.short_rs1(), f.short_rd(), word);
    case 7: return s_type(3, f.short_rs1(), f.short_rd(), twice);
    default: return 0;  // Of F and D, or reserved.
  }
}

std::uint32_t arithmetic(const Fields& f) {
  const std::uint32_t rd = f.short_rs1(), rs2 = f.short_rd();
  switch (f(11, 10)) {
    case 0: return i_type(kImm, 5, rd, rd, f.shift6());
    case 1: return i_type(kImm, 5, rd, rd, f.shift6() | 0x400);
    case 2: return i_type(kImm, 7, rd, rd, f.imm6());
    default: break;
  }
  switch (f(12, 12, 2) | f(6, 5)) {
    case 0: return r_type(kReg, 0, 0x20, rd, rd, rs2);
    case 1: return r_type(kReg, 4, 0, rd, rd, rs2);
    case 2: return r_type(kReg, 6, 0, rd, rd, rs2);
    case 3: return r_type(kReg, 7, 0, rd, rd, rs2);
    case 4: return r_type(kReg32, 0, 0x20, rd, rd, rs2);
    case 5: return r_type(kReg32, 0, 0, rd, rd, rs2);
    default: return 0;
  }
}

std::uint32_t lui_or_addi16sp(const Fields& f) {
  const std::uint32_t rd = f(11, 7);
  if (rd == 2) {
    const std::uint32_t imm = f.sign(9) | f(4, 3, 7) | f(5, 5, 6) | f(2, 2, 5) | f(6, 6, 4);
    return (imm & 0x3f0) == 0 ? 0 : i_type(kImm, 0, 2, 2, imm);
  }
  return f.imm6() == 0 ? 0 : kLui | rd << 7 | f.imm6() << 12;
}

std::uint32_t quadrant1(const Fields& f) {
  const std::uint32_t rd = f(11, 7);
  const std::uint32_t away = f.sign(11) | f(11, 11, 4) | f(10, 9, 8) | f(8, 8, 10) | f(7, 7, 6) |
                             f(6, 6, 7) | f(5, 3, 1) | f(2, 2, 5);
  const std::uint32_t near = f.sign(8) | f(11, 10, 3) | f(6, 5, 6) | f(4, 3, 1) | f(2, 2, 5);
  switch (f(15, 13)) {
    case 0: return i_type(kImm, 0, rd, rd, f.imm6());
    case 1: return rd == 0 ? 0 : i_type(kImm32, 0, rd, rd, f.imm6());
    case 2: return i_type(kImm, 0, rd, 0, f.imm6());
    case 3: return lui_or_addi16sp(f);
    case 4: return arithmetic(f);
    case 5: return jump(0, away);
    case 6: return branch(0, f.short_rs1(), near);
    default: return branch(1, f.short_rs1(), near);
  }
}

std::uint32_t jump_or_move(const Fields& f) {
  const std::uint32_t rd = f(11, 7), rs2 = f(6, 2);
  if (f(12, 12) == 0) {
    if (rs2 != 0) return r_type(kReg, 0, 0, rd, 0, rs2);
    return rd == 0 ? 0 : i_type(kJalr, 0, 0, rd, 0);
  }
  if (rs2 != 0) return r_type(kReg, 0, 0, rd, rd, rs2);
  return rd == 0 ? 0x00100073 : i_type(kJalr, 0, 1, rd, 0);  // c.ebreak, c.jalr
}

std::uint32_t quadrant2(const Fields& f) {
  const std::uint32_t rd = f(11, 7);
  switch (f(15, 13)) {
    case 0: return i_type(kImm, 1, rd, rd, f.shift6());
    case 2: return rd == 0 ? 0 : i_type(kLoad, 2, rd, 2, f(12, 12, 5) | f(6, 4, 2) | f(3, 2, 6));
    case 3: return rd == 0 ? 0 : i_type(kLoad, 3, rd, 2, f(12, 12, 5) | f(6, 5, 3) | f(4, 2, 6));
    case 4: return jump_or_move(f);
    case 6: return s_type(2, 2, f(6, 2), f(12, 9, 2) | f(8, 7, 6));
    case 7: return s_type(3, 2, f(6, 2), f(12, 10, 3) | f(9, 7, 6));
    default: return 0;
  }
}

}  // namespace

std::uint32_t expand_compressed(std::uint16_t bits) {
  const Fields fields(bits);
  switch (bits & 3) {
    case 0: return quadrant0(fields);
    case 1: return quadrant1(fields);
    case 2: return quadrant2(fields);
    default: return 0;
  }
}

}  // namespace libft::machine
