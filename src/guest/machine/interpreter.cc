// SPDX-License-Identifier: LGPL-2.1-or-later
// Core::run(). Each handler ends by jumping to the next one's address, so that the host's processor
// predicts each of these jumps by itself; and each counts its instruction, so that the count is
// exact whatever stops the run. Handlers exist twice, for instructions of two bytes and of four:
// where the next operation is must not depend on a load.
//
// Labels as values are a GNU extension; every compiler that builds libft has it.
#pragma GCC diagnostic ignored "-Wpedantic"
#include "interpreter.h"

#include <cstring>
#include <limits>

#include "arithmetic.h"
#include "core.h"
#include "decode.h"

namespace libft::machine {

namespace {

struct Labels {
  const void* undecoded;
  const void* next_page;
};
Labels labels_of_run{};  // Constant from the first Core on: see its constructor.

constexpr std::int32_t kOpBytesPerByte = sizeof(Op) / 2;

std::uint32_t half_at(const DecodedPage& page, std::size_t slot) {
  std::uint16_t half;
  std::memcpy(&half, page.memory + slot * 2, sizeof half);
  return half;
}

Operation near(Operation far) {
  const auto distance =
      static_cast<unsigned>(Operation::beq_far) - static_cast<unsigned>(Operation::beq_near);
  if (far == Operation::jal_far) return Operation::jal_near;
  return static_cast<Operation>(static_cast<unsigned>(far) - distance);
}

bool is_far(Operation operation) {
  return operation == Operation::jal_far ||
         (operation >= Operation::beq_far && operation <= Operation::bgeu_far);
}

// `offset` is the instruction's distance from the beginning of its page; branches that stay within
// `room` bytes become near.
void fill(Op& op, std::uint32_t bits, std::int32_t offset, std::int32_t room,
          const void* const (*handlers)[2]) {
  const Instruction in = decode(bits);
  Operation operation = in.operation;
  op.imm = in.imm;
  if (is_far(operation)) {
    const std::int32_t target = offset + in.imm;
    const bool stays = target >= 0 && target < room;
    op.imm = stays ? in.imm * kOpBytesPerByte : target;
    if (stays) operation = near(operation);
  } else if (operation == Operation::auipc) {
    op.imm += offset;
  } else if (operation == Operation::illegal) {
    op.imm = static_cast<std::int32_t>(is_compressed(bits) ? bits & 0xffff : bits);
  }
  op.rd = in.rd == 0 ? kNowhere : in.rd;
  op.rs1 = in.rs1;
  op.rs2 = in.rs2;
  op.function = in.function;
  op.handler = handlers[static_cast<unsigned>(operation)][in.length == 4];
}

}  // namespace

#define FT_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define FT_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#define FT_DISPATCH()                           \
  do {                                          \
    if (FT_UNLIKELY(--left < 0)) goto all_done; \
    goto * ip->handler;                         \
  } while (false)

// An operation that goes on behind itself; `body` sees Op& op and the registers x.
#define FT_OP(name, body) \
  name##_2 : {            \
    const Op& op = *ip;   \
    body;                 \
    ip += 1;              \
    FT_DISPATCH();        \
  }                       \
  name##_4 : {            \
    const Op& op = *ip;   \
    body;                 \
    ip += 2;              \
    FT_DISPATCH();        \
  }

#define FT_BRANCH(name, condition)                                                       \
  name##_near_2 : name##_near_4 : {                                                      \
    const Op& op = *ip;                                                                  \
    if (condition) {                                                                     \
      ip = reinterpret_cast<const Op*>(reinterpret_cast<const char*>(ip) + op.imm);      \
    } else {                                                                             \
      ip += 2;                                                                           \
    }                                                                                    \
    FT_DISPATCH();                                                                       \
  }                                                                                      \
  name##_far_2 : name##_far_4 : {                                                        \
    const Op& op = *ip;                                                                  \
    if (condition) {                                                                     \
      pc = page_address + static_cast<std::uint64_t>(static_cast<std::int64_t>(op.imm)); \
      goto jump;                                                                         \
    }                                                                                    \
    ip += 2;                                                                             \
    FT_DISPATCH();                                                                       \
  }

// Only BEQ and BNE have compressed forms.
#define FT_SHORT_BRANCH(name, condition)                                                 \
  name##_near_2 : {                                                                      \
    const Op& op = *ip;                                                                  \
    if (condition) {                                                                     \
      ip = reinterpret_cast<const Op*>(reinterpret_cast<const char*>(ip) + op.imm);      \
    } else {                                                                             \
      ip += 1;                                                                           \
    }                                                                                    \
    FT_DISPATCH();                                                                       \
  }                                                                                      \
  name##_far_2 : {                                                                       \
    const Op& op = *ip;                                                                  \
    if (condition) {                                                                     \
      pc = page_address + static_cast<std::uint64_t>(static_cast<std::int64_t>(op.imm)); \
      goto jump;                                                                         \
    }                                                                                    \
    ip += 1;                                                                             \
    FT_DISPATCH();                                                                       \
  }                                                                                      \
  name##_near_4 : {                                                                      \
    const Op& op = *ip;                                                                  \
    if (condition) {                                                                     \
      ip = reinterpret_cast<const Op*>(reinterpret_cast<const char*>(ip) + op.imm);      \
    } else {                                                                             \
      ip += 2;                                                                           \
    }                                                                                    \
    FT_DISPATCH();                                                                       \
  }                                                                                      \
  name##_far_4 : {                                                                       \
    const Op& op = *ip;                                                                  \
    if (condition) {                                                                     \
      pc = page_address + static_cast<std::uint64_t>(static_cast<std::int64_t>(op.imm)); \
      goto jump;                                                                         \
    }                                                                                    \
    ip += 2;                                                                             \
    FT_DISPATCH();                                                                       \
  }

// What the slow way of an operation of `length` slots came to.
#define FT_OUTCOME(outcome, length)                            \
  switch (outcome) {                                           \
    case Outcome::done: break;                                 \
    case Outcome::trap: goto trapped;                          \
    case Outcome::refetch: ip += length; goto look_up_again;   \
    case Outcome::device: ip += length; goto leave_for_device; \
    case Outcome::postponed: goto postponed;                   \
  }

#define FT_LOAD_OF(name, type, length, slots)                                                      \
  name##_##length : {                                                                              \
    const Op& op = *ip;                                                                            \
    const std::uint64_t address = x[op.rs1] + static_cast<std::uint64_t>(std::int64_t{op.imm});    \
    const TlbEntry& entry = readable[Tlb::index(address)];                                         \
    if (FT_LIKELY(entry.tag == tag_of(address, sizeof(type)))) {                                   \
      type value;                                                                                  \
      std::memcpy(&value, reinterpret_cast<const void*>(address + entry.addend), sizeof value);    \
      x[op.rd] = static_cast<std::uint64_t>(static_cast<std::int64_t>(value));                     \
    } else {                                                                                       \
      left_ = static_cast<std::uint64_t>(left);                                                    \
      std::uint64_t wide = 0;                                                                      \
      const Outcome outcome = slow_load(address, sizeof(type), wide);                              \
      if (outcome != Outcome::trap && outcome != Outcome::postponed)                               \
        x[op.rd] = static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<type>(wide))); \
      FT_OUTCOME(outcome, slots)                                                                   \
    }                                                                                              \
    ip += slots;                                                                                   \
    FT_DISPATCH();                                                                                 \
  }
#define FT_LOAD(name, type) FT_LOAD_OF(name, type, 2, 1) FT_LOAD_OF(name, type, 4, 2)

#define FT_STORE_OF(name, type, length, slots)                                                  \
  name##_##length : {                                                                           \
    const Op& op = *ip;                                                                         \
    const std::uint64_t address = x[op.rs1] + static_cast<std::uint64_t>(std::int64_t{op.imm}); \
    const TlbEntry& entry = writable[Tlb::index(address)];                                      \
    if (FT_LIKELY(entry.tag == tag_of(address, sizeof(type)))) {                                \
      const type value = static_cast<type>(x[op.rs2]);                                          \
      std::memcpy(reinterpret_cast<void*>(address + entry.addend), &value, sizeof value);       \
    } else {                                                                                    \
      left_ = static_cast<std::uint64_t>(left);                                                 \
      FT_OUTCOME(slow_store(address, sizeof(type), x[op.rs2]), slots)                           \
    }                                                                                           \
    ip += slots;                                                                                \
    FT_DISPATCH();                                                                              \
  }
#define FT_STORE(name, type) FT_STORE_OF(name, type, 2, 1) FT_STORE_OF(name, type, 4, 2)

// An operation that a function does. None of them has a compressed form, except c.ebreak.
#define FT_CALL(name, call)                   \
  name##_2 : name##_4 : {                     \
    [[maybe_unused]] const Op& op = *ip;      \
    left_ = static_cast<std::uint64_t>(left); \
    FT_OUTCOME(call, 2)                       \
    ip += 2;                                  \
    FT_DISPATCH();                            \
  }

#define FT_PC() (page_address + static_cast<std::uint64_t>(ip - page_ops) * 2)

Run Core::run(std::uint64_t steps, std::uint64_t now) {
  static const void* const kHandlers[kOperations][2] = {
#define FT_LABELS(name) {&&name##_2, &&name##_4},
      FT_MACHINE_OPERATIONS(FT_LABELS)
#undef FT_LABELS
  };
  if (steps == 0) {
    labels_of_run = {&&undecoded, &&next_page};
    return {};
  }
  constexpr std::uint64_t kStepsMax = std::numeric_limits<std::int64_t>::max();
  steps_ = steps < kStepsMax ? steps : kStepsMax;
  start_ = now;
  steps_before_ = hart.steps;
  hart.waiting = false;

  std::int64_t left = static_cast<std::int64_t>(steps_);
  std::uint64_t* const x = hart.x.data();
  const TlbEntry* readable = nullptr;
  const TlbEntry* writable = nullptr;
  const FetchEntry* fetchable = nullptr;
  std::uint64_t pc = hart.pc;
  std::uint64_t page_address = 0;
  DecodedPage* code = nullptr;
  const Op* page_ops = nullptr;
  const Op* ip = nullptr;
  Exit exit = Exit::steps;

enter:  // The mode, what it may see, or what may interrupt it has changed.
  hart.pc = pc;
  take_interrupt();
  pc = hart.pc;
  readable = data_tlb().read.data();
  writable = data_tlb().write.data();
  fetchable = fetch_tlb().fetch.data();

jump : {
  const FetchEntry& entry = fetchable[Tlb::index(pc)];
  if (FT_LIKELY(entry.tag == (pc & ~(kPageBytes - 1)))) {
    code = entry.page;
  } else {
    code = slow_fetch(pc);
    if (code == nullptr) {  // The instruction that cannot be fetched counts as one.
      if (left > 0 && postponed_) goto postponed_at_pc;
      if (--left < 0) goto out;
      left_ = static_cast<std::uint64_t>(left);
      goto trapped_at_pc;
    }
  }
  page_address = pc & ~(kPageBytes - 1);
  page_ops = code->ops.data();
  ip = page_ops + pc % kPageBytes / 2;
  FT_DISPATCH();
}

undecoded : {
  const auto slot = static_cast<std::size_t>(ip - page_ops);
  std::uint32_t bits = half_at(*code, slot);
  if (!is_compressed(bits)) {
    if (slot == kPageSlots - 1) goto across;
    bits |= half_at(*code, slot + 1) << 16;
  }
  fill(code->ops[slot], bits, static_cast<std::int32_t>(slot * 2), kPageBytes, kHandlers);
  goto * ip->handler;
}

across : {  // Never kept: the second page may be another one the next time.
  std::uint32_t bits = 0;
  pc = FT_PC();
  if (!fetch_across(pc, bits)) {
    if (postponed_) goto postponed;
    left_ = static_cast<std::uint64_t>(left);
    goto trapped_at_pc;
  }
  fill(across_.ops[0], bits, 0, 0, kHandlers);
  across_.ops[2].handler = &&next_page;
  page_address = pc;
  page_ops = ip = across_.ops.data();
  goto * ip->handler;
}

next_page:
  ++left;  // That was no instruction.
  pc = FT_PC();
  goto jump;

look_up_again:
  pc = FT_PC();
  goto jump;

trapped:
  pc = FT_PC();
trapped_at_pc:
  take_trap(static_cast<std::uint64_t>(cause_), value_, pc, false);
  pc = hart.pc;
  goto enter;

postponed:
  ++left;  // As if it had not been reached.
  pc = FT_PC();
postponed_at_pc:
  exit = Exit::postponed;
  goto out;

leave_for_device:
  exit = Exit::device;
  pc = FT_PC();
  goto out;

all_done:
  pc = FT_PC();
out:
  hart.pc = pc;
  if (left < 0) left = 0;
  hart.steps += steps_ - static_cast<std::uint64_t>(left);
  return {exit, steps_ - static_cast<std::uint64_t>(left)};

  FT_OP(lui, x[op.rd] = static_cast<std::uint64_t>(std::int64_t{op.imm}))
  FT_OP(auipc, x[op.rd] = page_address + static_cast<std::uint64_t>(std::int64_t{op.imm}))

jal_near_2 : {
  const Op& op = *ip;
  x[op.rd] = FT_PC() + 2;
  ip = reinterpret_cast<const Op*>(reinterpret_cast<const char*>(ip) + op.imm);
  FT_DISPATCH();
}
jal_near_4 : {
  const Op& op = *ip;
  x[op.rd] = FT_PC() + 4;
  ip = reinterpret_cast<const Op*>(reinterpret_cast<const char*>(ip) + op.imm);
  FT_DISPATCH();
}
jal_far_2 : {
  const Op& op = *ip;
  pc = page_address + static_cast<std::uint64_t>(std::int64_t{op.imm});
  x[op.rd] = FT_PC() + 2;
  goto jump;
}
jal_far_4 : {
  const Op& op = *ip;
  pc = page_address + static_cast<std::uint64_t>(std::int64_t{op.imm});
  x[op.rd] = FT_PC() + 4;
  goto jump;
}
jalr_2 : {
  const Op& op = *ip;
  pc = (x[op.rs1] + static_cast<std::uint64_t>(std::int64_t{op.imm})) & ~std::uint64_t{1};
  x[op.rd] = FT_PC() + 2;
  goto jump_register;
}
jalr_4 : {
  const Op& op = *ip;
  pc = (x[op.rs1] + static_cast<std::uint64_t>(std::int64_t{op.imm})) & ~std::uint64_t{1};
  x[op.rd] = FT_PC() + 4;
  goto jump_register;
}
jump_register:
  if ((pc & ~(kPageBytes - 1)) == page_address) {
    ip = page_ops + pc % kPageBytes / 2;
    FT_DISPATCH();
  }
  goto jump;

  FT_SHORT_BRANCH(beq, x[op.rs1] == x[op.rs2])
  FT_SHORT_BRANCH(bne, x[op.rs1] != x[op.rs2])
  FT_BRANCH(blt, static_cast<std::int64_t>(x[op.rs1]) < static_cast<std::int64_t>(x[op.rs2]))
  FT_BRANCH(bge, static_cast<std::int64_t>(x[op.rs1]) >= static_cast<std::int64_t>(x[op.rs2]))
  FT_BRANCH(bltu, x[op.rs1] < x[op.rs2])
  FT_BRANCH(bgeu, x[op.rs1] >= x[op.rs2])

  FT_LOAD(lb, std::int8_t)
  FT_LOAD(lh, std::int16_t)
  FT_LOAD(lw, std::int32_t)
  FT_LOAD(ld, std::int64_t)
  FT_LOAD(lbu, std::uint8_t)
  FT_LOAD(lhu, std::uint16_t)
  FT_LOAD(lwu, std::uint32_t)
  FT_STORE(sb, std::uint8_t)
  FT_STORE(sh, std::uint16_t)
  FT_STORE(sw, std::uint32_t)
  FT_STORE(sd, std::uint64_t)

#define FT_IMM static_cast<std::uint64_t>(std::int64_t{op.imm})
  FT_OP(addi, x[op.rd] = x[op.rs1] + FT_IMM)
  FT_OP(slti, x[op.rd] = static_cast<std::int64_t>(x[op.rs1]) < std::int64_t{op.imm})
  FT_OP(sltiu, x[op.rd] = x[op.rs1] < FT_IMM)
  FT_OP(xori, x[op.rd] = x[op.rs1] ^ FT_IMM)
  FT_OP(ori, x[op.rd] = x[op.rs1] | FT_IMM)
  FT_OP(andi, x[op.rd] = x[op.rs1] & FT_IMM)
  FT_OP(slli, x[op.rd] = x[op.rs1] << (op.imm & 63))
  FT_OP(srli, x[op.rd] = x[op.rs1] >> (op.imm & 63))
  FT_OP(srai, x[op.rd] = shift_right_signed(x[op.rs1], static_cast<unsigned>(op.imm)))
  FT_OP(addiw, x[op.rd] = sign_extend(x[op.rs1] + FT_IMM))
  FT_OP(slliw, x[op.rd] = sign_extend(x[op.rs1] << (op.imm & 31)))
  FT_OP(srliw, x[op.rd] = sign_extend((x[op.rs1] & 0xffffffff) >> (op.imm & 31)))
  FT_OP(sraiw, x[op.rd] = shift_right_signed32(x[op.rs1], static_cast<unsigned>(op.imm)))

  FT_OP(add, x[op.rd] = x[op.rs1] + x[op.rs2])
  FT_OP(sub, x[op.rd] = x[op.rs1] - x[op.rs2])
  FT_OP(sll, x[op.rd] = x[op.rs1] << (x[op.rs2] & 63))
  FT_OP(slt, x[op.rd] = static_cast<std::int64_t>(x[op.rs1]) < static_cast<std::int64_t>(x[op.rs2]))
  FT_OP(sltu, x[op.rd] = x[op.rs1] < x[op.rs2])
  FT_OP(xor_, x[op.rd] = x[op.rs1] ^ x[op.rs2])
  FT_OP(srl, x[op.rd] = x[op.rs1] >> (x[op.rs2] & 63))
  FT_OP(sra, x[op.rd] = shift_right_signed(x[op.rs1], static_cast<unsigned>(x[op.rs2])))
  FT_OP(or_, x[op.rd] = x[op.rs1] | x[op.rs2])
  FT_OP(and_, x[op.rd] = x[op.rs1] & x[op.rs2])
  FT_OP(addw, x[op.rd] = sign_extend(x[op.rs1] + x[op.rs2]))
  FT_OP(subw, x[op.rd] = sign_extend(x[op.rs1] - x[op.rs2]))
  FT_OP(sllw, x[op.rd] = sign_extend(x[op.rs1] << (x[op.rs2] & 31)))
  FT_OP(srlw, x[op.rd] = sign_extend((x[op.rs1] & 0xffffffff) >> (x[op.rs2] & 31)))
  FT_OP(sraw, x[op.rd] = shift_right_signed32(x[op.rs1], static_cast<unsigned>(x[op.rs2])))

  FT_OP(mul, x[op.rd] = x[op.rs1] * x[op.rs2])
  FT_OP(mulh, x[op.rd] = multiply_high_signed(x[op.rs1], x[op.rs2]))
  FT_OP(mulhsu, x[op.rd] = multiply_high_mixed(x[op.rs1], x[op.rs2]))
  FT_OP(mulhu, x[op.rd] = multiply_high(x[op.rs1], x[op.rs2]))
  FT_OP(div, x[op.rd] = divide_signed(x[op.rs1], x[op.rs2]))
  FT_OP(divu, x[op.rd] = divide(x[op.rs1], x[op.rs2]))
  FT_OP(rem, x[op.rd] = remainder_signed(x[op.rs1], x[op.rs2]))
  FT_OP(remu, x[op.rd] = remainder(x[op.rs1], x[op.rs2]))
  FT_OP(mulw, x[op.rd] = sign_extend(x[op.rs1] * x[op.rs2]))
  FT_OP(divw, x[op.rd] = divide_signed32(x[op.rs1], x[op.rs2]))
  FT_OP(divuw, x[op.rd] = divide32(x[op.rs1], x[op.rs2]))
  FT_OP(remw, x[op.rd] = remainder_signed(sign_extend(x[op.rs1]), sign_extend(x[op.rs2])))
  FT_OP(remuw, x[op.rd] = remainder32(x[op.rs1], x[op.rs2]))

  FT_CALL(lr_w, load_reserved(op, 4))
  FT_CALL(lr_d, load_reserved(op, 8))
  FT_CALL(sc_w, store_conditional(op, 4))
  FT_CALL(sc_d, store_conditional(op, 8))
  FT_CALL(amo_w, atomic(op, 4))
  FT_CALL(amo_d, atomic(op, 8))

  // Harts take turns, and stores to code take effect at once: there is nothing to wait for.
  FT_OP(fence, static_cast<void>(op))
  FT_OP(fence_i, static_cast<void>(op))
  FT_CALL(sfence_vma, fence_translations(op))
  FT_CALL(illegal, trap(Cause::illegal_instruction, static_cast<std::uint32_t>(op.imm)))

csr_2:
csr_4 : {
  left_ = static_cast<std::uint64_t>(left);
  const Outcome outcome = access_csr(*ip);
  if (outcome == Outcome::trap) goto trapped;
  ip += 2;
  if (outcome == Outcome::done) FT_DISPATCH();
  pc = FT_PC();
  goto enter;
}

ebreak_2:
ebreak_4:
  left_ = static_cast<std::uint64_t>(left);
  pc = FT_PC();
  trap(Cause::breakpoint, 0);
  goto trapped_at_pc;

ecall_2:
ecall_4:
  left_ = static_cast<std::uint64_t>(left);
  pc = FT_PC();
  if (hart.mode == Mode::supervisor && has_firmware_) {
    exit = Exit::firmware_call;
    goto out;
  }
  trap(static_cast<Cause>(static_cast<unsigned>(Cause::call_from_user) +
                          static_cast<unsigned>(hart.mode)),
       0);
  goto trapped_at_pc;

sret_2:
sret_4:
  if (supervisor_return() == Outcome::trap) goto returned_in_vain;
  pc = hart.pc;
  goto enter;

mret_2:
mret_4:
  if (machine_return() == Outcome::trap) goto returned_in_vain;
  pc = hart.pc;
  goto enter;

returned_in_vain:
  left_ = static_cast<std::uint64_t>(left);
  goto trapped;

wfi_2:
wfi_4:
  left_ = static_cast<std::uint64_t>(left);
  if (wait_for_interrupt() == Outcome::trap) goto trapped;
  ip += 2;
  pc = FT_PC();
  if ((hart.interrupts() & hart.mie) != 0) goto enter;
  hart.waiting = true;
  exit = Exit::waiting;
  goto out;
}

const void* undecoded_handler() { return labels_of_run.undecoded; }
const void* next_page_handler() { return labels_of_run.next_page; }

}  // namespace libft::machine
