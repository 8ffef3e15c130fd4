// SPDX-License-Identifier: LGPL-2.1-or-later
// Operations: what the interpreter executes. Instructions are decoded once, into one Op for each
// halfword of a page of memory, and jumped to by address afterwards. Values; no locks.
#pragma once

#include <array>
#include <cstdint>

namespace libft::machine {

// Loads, stores and arithmetic are named as in the RISC-V unprivileged specification. Branches know
// when they are decoded whether they stay on their page (`near`) or not (`far`).
#define FT_MACHINE_OPERATIONS(X)                                                                   \
  X(lui)                                                                                           \
  X(auipc)                                                                                         \
  X(jal_near)                                                                                      \
  X(jal_far) X(jalr) X(beq_near) X(bne_near) X(blt_near) X(bge_near) X(bltu_near) X(bgeu_near)     \
      X(beq_far) X(bne_far) X(blt_far) X(bge_far) X(bltu_far) X(bgeu_far) X(lb) X(lh) X(lw) X(ld)  \
          X(lbu) X(lhu) X(lwu) X(sb) X(sh) X(sw) X(sd) X(addi) X(slti) X(sltiu) X(xori) X(ori)     \
              X(andi) X(slli) X(srli) X(srai) X(add) X(sub) X(sll) X(slt) X(sltu) X(xor_) X(srl)   \
                  X(sra) X(or_) X(and_) X(addiw) X(slliw) X(srliw) X(sraiw) X(addw) X(subw)        \
                      X(sllw) X(srlw) X(sraw) X(mul) X(mulh) X(mulhsu) X(mulhu) X(div) X(divu)     \
                          X(rem) X(remu) X(mulw) X(divw) X(divuw) X(remw) X(remuw) X(lr_w) X(lr_d) \
                              X(sc_w) X(sc_d) X(amo_w) X(amo_d) X(fence) X(fence_i) X(sfence_vma)  \
                                  X(csr) X(ecall) X(ebreak) X(sret) X(mret) X(wfi) X(illegal)

enum class Operation : std::uint8_t {
#define FT_MACHINE_NAME(name) name,
  FT_MACHINE_OPERATIONS(FT_MACHINE_NAME)
#undef FT_MACHINE_NAME
};
#define FT_MACHINE_ONE(name) +1
inline constexpr std::size_t kOperations = 0 FT_MACHINE_OPERATIONS(FT_MACHINE_ONE);
#undef FT_MACHINE_ONE

// Writes to x0 go to a register that nobody reads, so that no operation has to look.
inline constexpr std::uint8_t kNowhere = 32;

// `imm` of a near branch is its distance in bytes of Ops; of a far one and of auipc, the target's
// distance from the page's first byte; of csr, the register's number; of amo, funct5.
struct Op {
  const void* handler = nullptr;
  std::int32_t imm = 0;
  std::uint8_t rd = 0, rs1 = 0, rs2 = 0;
  std::uint8_t function = 0;  // funct3 of csr.
};
static_assert(sizeof(Op) == 16);

inline constexpr std::uint64_t kPageBytes = 4096;
inline constexpr std::size_t kPageSlots = kPageBytes / 2;

// One page of memory as operations. The last slot leads to the next page.
struct DecodedPage {
  std::array<Op, kPageSlots + 1> ops;
  const std::byte* memory = nullptr;  // The page that it was decoded from.
  std::uint32_t stores = 0;           // Into it since it was last decoded anew.
};

}  // namespace libft::machine
