// SPDX-License-Identifier: LGPL-2.1-or-later
// The A extension (volume I, chapter 8). Harts execute in turns, or own the page that they write
// to, so an operation is atomic as it is.
#include <algorithm>

#include "arithmetic.h"
#include "core.h"

namespace libft::machine {

namespace {

std::uint64_t combine(unsigned funct5, std::uint64_t old, std::uint64_t value) {
  const auto a = static_cast<std::int64_t>(old), b = static_cast<std::int64_t>(value);
  switch (funct5) {
    case 0x00: return old + value;
    case 0x01: return value;
    case 0x04: return old ^ value;
    case 0x08: return old | value;
    case 0x0c: return old & value;
    case 0x10: return static_cast<std::uint64_t>(std::min(a, b));
    case 0x14: return static_cast<std::uint64_t>(std::max(a, b));
    case 0x18: return std::min(old, value);
    default: return std::max(old, value);  // 0x1c; there are no others.
  }
}

std::uint64_t extended(std::uint64_t value, unsigned size) {
  return size == 4 ? sign_extend(value) : value;
}

}  // namespace

Core::Outcome Core::load_reserved(const Op& op, unsigned size) {
  const std::uint64_t address = hart.x[op.rs1];
  if (address % size != 0) return trap(Cause::load_misaligned, address);
  std::uint64_t physical = 0, value = 0;
  if (!translate(address, Access::load, physical)) return failed();
  if (!memory_.contains(physical, size)) return access_fault(address, Access::load);
  const Outcome outcome = slow_load(address, size, value);
  if (outcome == Outcome::postponed) return outcome;
  hart.reserved = true;
  hart.reservation = address;
  hart.reserved_physical = physical;
  hart.x[op.rd] = extended(value, size);
  return outcome;
}

// One that fails for want of a reservation touches nothing, and so cannot trap.
Core::Outcome Core::store_conditional(const Op& op, unsigned size) {
  const std::uint64_t address = hart.x[op.rs1];
  std::uint64_t physical = 0;
  Outcome outcome = Outcome::done;
  bool holds = hart.reserved && hart.reservation == address;
  if (holds) {
    if (address % size != 0) return trap(Cause::store_misaligned, address);
    if (!translate(address, Access::store, physical)) return failed();
    holds = hart.reserved_physical == physical;
  }
  if (holds) outcome = slow_store(address, size, hart.x[op.rs2]);
  if (outcome == Outcome::postponed) return outcome;
  hart.reserved = false;
  hart.x[op.rd] = holds ? 0 : 1;
  return outcome;
}

Core::Outcome Core::atomic(const Op& op, unsigned size) {
  const std::uint64_t address = hart.x[op.rs1];
  if (address % size != 0) return trap(Cause::store_misaligned, address);
  std::uint64_t physical = 0, old = 0;
  if (!translate(address, Access::store, physical)) return failed();
  if (!memory_.contains(physical, size)) return access_fault(address, Access::store);
  if (!has(physical, Permission::write)) return Outcome::postponed;
  __builtin_memcpy(&old, memory_.at(physical), size);
  const auto funct5 = static_cast<unsigned>(op.imm);
  old = extended(old, size);
  const std::uint64_t value = combine(funct5, old, extended(hart.x[op.rs2], size));
  const Outcome outcome = slow_store(address, size, value);
  hart.x[op.rd] = old;
  return outcome;
}

}  // namespace libft::machine
