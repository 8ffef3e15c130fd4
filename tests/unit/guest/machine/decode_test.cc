// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/machine/decode.h"

#include <doctest/doctest.h>

using namespace libft::machine;

TEST_CASE("immediates come out whole and signed") {
  CHECK(decode(0xfff00093).imm == -1);               // addi ra, zero, -1
  CHECK(decode(0xfe20afa3).imm == -1);               // sw sp, -1(ra)
  CHECK(decode(0xfe209ee3).imm == -4);               // bne ra, sp, -4
  CHECK(decode(0xffdff06f).imm == -4);               // jal zero, -4
  CHECK(decode(0x800000b7).imm == -2147483647 - 1);  // lui ra, 0x80000
  CHECK(decode(0x4350d093).operation == Operation::srai);
  CHECK(decode(0x4350d093).imm == 53);
}

TEST_CASE("a compressed instruction is one of the base set") {
  const Instruction move = decode(0x852e);  // c.mv a0, a1
  CHECK(move.length == 2);
  CHECK(move.operation == Operation::add);
  CHECK(move.rd == 10);
  CHECK(move.rs1 == 0);
  CHECK(move.rs2 == 11);
  CHECK(expand_compressed(0x8082) == 0x00008067);  // c.jr ra
  CHECK(expand_compressed(0x9002) == 0x00100073);  // c.ebreak
  CHECK(expand_compressed(0x7179) == 0xfd010113);  // c.addi16sp sp, -48
  CHECK(expand_compressed(0x6388) == 0x0007b503);  // c.ld a0, 0(a5)
}

TEST_CASE("what is reserved is illegal") {
  CHECK(decode(0x0000).operation == Operation::illegal);
  CHECK(decode(0xffffffff).operation == Operation::illegal);
  CHECK(decode(0x2000).operation == Operation::illegal);      // c.fld: there is no D
  CHECK(decode(0x02051513).operation == Operation::slli);     // shift by 32 is RV64's
  CHECK(decode(0x04051513).operation == Operation::illegal);  // a shift's seventh bit
  CHECK(decode(0x1015202f).operation == Operation::illegal);  // lr.w with rs2
}
