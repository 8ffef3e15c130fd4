// SPDX-License-Identifier: LGPL-2.1-or-later
#include "decode.h"

#include <array>

namespace libft::machine {

namespace {

using enum Operation;

struct Word {
  std::uint32_t bits;
  std::uint32_t field(unsigned high, unsigned low) const {
    return (bits >> low) & ((1u << (high - low + 1)) - 1);
  }
  std::uint32_t funct3() const { return field(14, 12); }
  std::uint32_t funct7() const { return field(31, 25); }
  std::int32_t i_imm() const { return static_cast<std::int32_t>(bits) >> 20; }
  std::int32_t s_imm() const {
    return (static_cast<std::int32_t>(bits & 0xfe000000) >> 20) |
           static_cast<std::int32_t>(field(11, 7));
  }
  std::int32_t b_imm() const {
    return (static_cast<std::int32_t>(bits & 0x80000000) >> 19) |
           static_cast<std::int32_t>(field(7, 7) << 11 | field(30, 25) << 5 | field(11, 8) << 1);
  }
  std::int32_t u_imm() const { return static_cast<std::int32_t>(bits & 0xfffff000); }
  std::int32_t j_imm() const {
    return (static_cast<std::int32_t>(bits & 0x80000000) >> 11) |
           static_cast<std::int32_t>(field(19, 12) << 12 | field(20, 20) << 11 |
                                     field(30, 21) << 1);
  }
};

using Eight = std::array<Operation, 8>;
constexpr Eight kLoads{lb, lh, lw, ld, lbu, lhu, lwu, illegal};
constexpr Eight kStores{sb, sh, sw, sd, illegal, illegal, illegal, illegal};
constexpr Eight kBranches{beq_far, bne_far, illegal, illegal, blt_far, bge_far, bltu_far, bgeu_far};
constexpr Eight kRegister{add, sll, slt, sltu, xor_, srl, or_, and_};
constexpr Eight kMultiply{mul, mulh, mulhsu, mulhu, div, divu, rem, remu};
constexpr Eight kRegister32{addw, sllw, illegal, illegal, illegal, srlw, illegal, illegal};
constexpr Eight kMultiply32{mulw, illegal, illegal, illegal, divw, divuw, remw, remuw};

Operation immediate_operation(const Word& word) {
  switch (word.funct3()) {
    case 0: return addi;
    case 1: return word.field(31, 26) == 0 ? slli : illegal;
    case 2: return slti;
    case 3: return sltiu;
    case 4: return xori;
    case 5:
      if (word.field(31, 26) == 0) return srli;
      return word.field(31, 26) == 0x10 ? srai : illegal;
    case 6: return ori;
    default: return andi;
  }
}

Operation immediate32_operation(const Word& word) {
  switch (word.funct3()) {
    case 0: return addiw;
    case 1: return word.funct7() == 0 ? slliw : illegal;
    case 5:
      if (word.funct7() == 0) return srliw;
      return word.funct7() == 0x20 ? sraiw : illegal;
    default: return illegal;
  }
}

Operation register_operation(const Word& word) {
  switch (word.funct7()) {
    case 0x00: return kRegister[word.funct3()];
    case 0x01: return kMultiply[word.funct3()];
    case 0x20: return word.funct3() == 0 ? sub : word.funct3() == 5 ? sra : illegal;
    default: return illegal;
  }
}

Operation register32_operation(const Word& word) {
  switch (word.funct7()) {
    case 0x00: return kRegister32[word.funct3()];
    case 0x01: return kMultiply32[word.funct3()];
    case 0x20: return word.funct3() == 0 ? subw : word.funct3() == 5 ? sraw : illegal;
    default: return illegal;
  }
}

Operation atomic_operation(const Word& word) {
  if (word.funct3() != 2 && word.funct3() != 3) return illegal;
  const bool wide = word.funct3() == 3;
  switch (word.field(31, 27)) {
    case 0x02: return word.field(24, 20) != 0 ? illegal : wide ? lr_d : lr_w;
    case 0x03: return wide ? sc_d : sc_w;
    case 0x00:
    case 0x01:
    case 0x04:
    case 0x08:
    case 0x0c:
    case 0x10:
    case 0x14:
    case 0x18:
    case 0x1c: return wide ? amo_d : amo_w;
    default: return illegal;
  }
}

Operation system_operation(const Word& word) {
  if (word.funct3() == 4) return illegal;
  if (word.funct3() != 0) return csr;
  if (word.field(11, 7) != 0) return illegal;
  if (word.funct7() == 0x09) return sfence_vma;
  if (word.field(19, 15) != 0) return illegal;
  switch (word.field(31, 20)) {
    case 0x000: return ecall;
    case 0x001: return ebreak;
    case 0x102: return sret;
    case 0x302: return mret;
    case 0x105: return wfi;
    default: return illegal;
  }
}

void decode_system(const Word& word, Instruction& out) {
  out.operation = system_operation(word);
  out.imm = static_cast<std::int32_t>(word.field(31, 20));
  out.function = static_cast<std::uint8_t>(word.funct3());
}

void decode_major(const Word& word, Instruction& out) {
  const std::uint32_t funct3 = word.funct3();
  switch (word.field(6, 0)) {
    case 0x03: out.operation = kLoads[funct3], out.imm = word.i_imm(); break;
    case 0x0f: out.operation = funct3 == 0 ? fence : funct3 == 1 ? fence_i : illegal; break;
    case 0x13:
      out.operation = immediate_operation(word);
      out.imm = funct3 == 1 || funct3 == 5 ? word.i_imm() & 63 : word.i_imm();
      break;
    case 0x17: out.operation = auipc, out.imm = word.u_imm(); break;
    case 0x1b:
      out.operation = immediate32_operation(word);
      out.imm = funct3 == 0 ? word.i_imm() : word.i_imm() & 31;
      break;
    case 0x23: out.operation = kStores[funct3], out.imm = word.s_imm(); break;
    case 0x2f:
      out.operation = atomic_operation(word);
      out.imm = static_cast<std::int32_t>(word.field(31, 27));
      break;
    case 0x33: out.operation = register_operation(word); break;
    case 0x37: out.operation = lui, out.imm = word.u_imm(); break;
    case 0x3b: out.operation = register32_operation(word); break;
    case 0x63: out.operation = kBranches[funct3], out.imm = word.b_imm(); break;
    case 0x67:
      out.operation = funct3 == 0 ? jalr : illegal;
      out.imm = word.i_imm();
      break;
    case 0x6f: out.operation = jal_far, out.imm = word.j_imm(); break;
    case 0x73: decode_system(word, out); break;
    default: break;
  }
}

}  // namespace

Instruction decode(std::uint32_t bits) {
  Instruction out;
  if (is_compressed(bits)) {
    out.length = 2;
    bits = expand_compressed(static_cast<std::uint16_t>(bits));
  }
  const Word word{bits};
  out.rd = static_cast<std::uint8_t>(word.field(11, 7));
  out.rs1 = static_cast<std::uint8_t>(word.field(19, 15));
  out.rs2 = static_cast<std::uint8_t>(word.field(24, 20));
  decode_major(word, out);
  return out;
}

}  // namespace libft::machine
