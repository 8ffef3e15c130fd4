// SPDX-License-Identifier: LGPL-2.1-or-later
// Encodes instructions for generated programs, at a running address. Test support.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace libft::test {

class Assembler {
 public:
  Assembler(std::vector<std::byte>& image, std::size_t at) : image_(image), at_(at) {}
  std::size_t at() const { return at_; }

  void half(std::uint32_t bits) { put(static_cast<std::uint16_t>(bits)); }
  void word(std::uint32_t bits) { put(bits); }
  void twice(std::uint64_t bits) { put(bits); }

  void r(std::uint32_t opcode, unsigned f3, unsigned f7, unsigned rd, unsigned rs1, unsigned rs2) {
    word(opcode | rd << 7 | f3 << 12 | rs1 << 15 | rs2 << 20 | f7 << 25);
  }
  void i(std::uint32_t opcode, unsigned f3, unsigned rd, unsigned rs1, int imm) {
    word(opcode | rd << 7 | f3 << 12 | rs1 << 15 | static_cast<std::uint32_t>(imm) << 20);
  }
  void s(unsigned f3, unsigned rs1, unsigned rs2, int imm) {
    const auto bits = static_cast<std::uint32_t>(imm);
    word(0x23 | (bits & 31) << 7 | f3 << 12 | rs1 << 15 | rs2 << 20 | (bits >> 5 & 127) << 25);
  }
  void b(unsigned f3, unsigned rs1, unsigned rs2, int imm) {
    const auto bits = static_cast<std::uint32_t>(imm);
    word(0x63 | (bits >> 11 & 1) << 7 | (bits >> 1 & 15) << 8 | f3 << 12 | rs1 << 15 | rs2 << 20 |
         (bits >> 5 & 63) << 25 | (bits >> 12 & 1) << 31);
  }
  void jal(unsigned rd, int imm) {
    const auto bits = static_cast<std::uint32_t>(imm);
    word(0x6f | rd << 7 | (bits & 0xff000) | (bits >> 11 & 1) << 20 | (bits >> 1 & 0x3ff) << 21 |
         (bits >> 20 & 1) << 31);
  }
  void jalr(unsigned rd, unsigned rs1, int imm) { i(0x67, 0, rd, rs1, imm); }
  void addi(unsigned rd, unsigned rs1, int imm) { i(0x13, 0, rd, rs1, imm); }
  void slli(unsigned rd, unsigned rs1, int by) { i(0x13, 1, rd, rs1, by); }
  void srli(unsigned rd, unsigned rs1, int by) { i(0x13, 5, rd, rs1, by); }
  void lui(unsigned rd, std::uint32_t imm20) { word(0x37 | rd << 7 | imm20 << 12); }
  void auipc(unsigned rd, std::uint32_t imm20) { word(0x17 | rd << 7 | imm20 << 12); }
  void csr(unsigned f3, unsigned rd, unsigned number, unsigned rs1) {
    i(0x73, f3, rd, rs1, static_cast<int>(number));
  }
  void csrw(unsigned number, unsigned rs1) { csr(1, 0, number, rs1); }
  void csrr(unsigned rd, unsigned number) { csr(2, rd, number, 0); }
  // Any constant, from the program's text.
  void load_constant(unsigned rd, std::uint64_t value) {
    auipc(rd, 0);
    i(0x03, 3, rd, rd, 12);
    jal(0, 12);
    twice(value);
  }

  // A forward branch whose target comes later: here(mark) patches it.
  std::size_t mark() const { return at_; }
  void branch_to_here(std::size_t from, unsigned f3, unsigned rs1, unsigned rs2) {
    Assembler(image_, from).b(f3, rs1, rs2, static_cast<int>(at_ - from));
  }
  void jump_to_here(std::size_t from) {
    Assembler(image_, from).jal(0, static_cast<int>(at_ - from));
  }
  void skip(std::size_t bytes) { at_ += bytes; }

 private:
  template <class T>
  void put(T bits) {
    std::memcpy(image_.data() + at_, &bits, sizeof bits);
    at_ += sizeof bits;
  }
  std::vector<std::byte>& image_;
  std::size_t at_;
};

}  // namespace libft::test
