// SPDX-License-Identifier: LGPL-2.1-or-later
// The slow way of loads, stores and fetches: what is in no translation cache, is misaligned, or is
// no memory. Misaligned accesses to memory work, as Linux expects of a machine that says so.
#include <array>
#include <cstring>

#include "core.h"
#include "decode.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t page_of(std::uint64_t address) { return address & ~(kPageBytes - 1); }

bool on_one_page(std::uint64_t address, unsigned size) {
  return address % kPageBytes + size <= kPageBytes;
}

}  // namespace

// Whether the hart may access memory there; otherwise the instruction is postponed.
bool Core::has(std::uint64_t physical, Permission permission) {
  if (memory_.permits(physical, permission)) return true;
  wanted_ = {false, memory_.page(physical), permission};
  postponed_ = true;
  return false;
}

// An access to two pages looks for all of what it needs before it changes anything. What cannot be
// translated needs nothing: it will trap.
bool Core::has_both(std::uint64_t address, std::uint64_t second, Access access) {
  for (const std::uint64_t part : {address, second}) {
    Walk way;
    if (!walk(part, access, way)) return !postponed_;
    if (!has_all(way, access)) return false;
  }
  return true;
}

Core::Outcome Core::done_or_refetch() {
  const bool dropped = dropped_;
  dropped_ = false;
  return dropped ? Outcome::refetch : Outcome::done;
}

void Core::keep_readable(std::uint64_t address, std::uint64_t physical) {
  Tlb& tlb = data_tlb();
  tlb.used = true;
  tlb.read[Tlb::index(address)] = {
      page_of(address),
      reinterpret_cast<std::uint64_t>(memory_.at(page_of(physical))) - page_of(address)};
}

void Core::keep_writable(std::uint64_t address, std::uint64_t physical) {
  if (!memory_.open(physical)) return;
  Tlb& tlb = data_tlb();
  tlb.used = true;
  tlb.write[Tlb::index(address)] = {
      page_of(address),
      reinterpret_cast<std::uint64_t>(memory_.at(page_of(physical))) - page_of(address)};
}

Core::Outcome Core::slow_load(std::uint64_t address, unsigned size, std::uint64_t& value) {
  if (!on_one_page(address, size)) return load_across(address, size, value);
  std::uint64_t physical = 0;
  if (!translate(address, Access::load, physical)) return failed();
  if (memory_.contains(physical, size)) {
    if (!has(physical, Permission::read)) return Outcome::postponed;
    std::memcpy(&value, memory_.at(physical), size);
    keep_readable(address, physical);
    return Outcome::done;
  }
  if (!may_use_devices()) return Outcome::postponed;
  if (physical % size != 0 || !bus_.load(physical, size, value))
    return access_fault(address, Access::load);
  return Outcome::device;
}

Core::Outcome Core::load_across(std::uint64_t address, unsigned size, std::uint64_t& value) {
  std::uint64_t low = 0, high = 0;
  const std::uint64_t second = page_of(address + size - 1);
  if (!has_both(address, second, Access::load)) return Outcome::postponed;
  if (!translate(address, Access::load, low)) return failed();
  if (!translate(second, Access::load, high)) return failed();
  const auto first_bytes = static_cast<unsigned>(second - address);
  if (!memory_.contains(low, first_bytes)) return access_fault(address, Access::load);
  if (!memory_.contains(high, size - first_bytes)) return access_fault(second, Access::load);
  std::memcpy(&value, memory_.at(low), first_bytes);
  std::memcpy(reinterpret_cast<std::byte*>(&value) + first_bytes, memory_.at(high),
              size - first_bytes);
  return Outcome::done;
}

void Core::store_to_memory(std::uint64_t physical, unsigned size, std::uint64_t value) {
  memory_.prepare_write(physical, size);
  std::memcpy(memory_.at(physical), &value, size);
}

Core::Outcome Core::slow_store(std::uint64_t address, unsigned size, std::uint64_t value) {
  if (!on_one_page(address, size)) return store_across(address, size, value);
  std::uint64_t physical = 0;
  if (!translate(address, Access::store, physical)) return failed();
  if (memory_.contains(physical, size)) {
    if (!has(physical, Permission::write)) return Outcome::postponed;
    dropped_ = false;
    store_to_memory(physical, size, value);
    keep_writable(address, physical);
    return done_or_refetch();
  }
  if (!may_use_devices()) return Outcome::postponed;
  if (physical % size != 0 || !bus_.store(physical, size, value))
    return access_fault(address, Access::store);
  return Outcome::device;
}

// Both pages are looked at before either is written: a store that traps has not happened.
Core::Outcome Core::store_across(std::uint64_t address, unsigned size, std::uint64_t value) {
  std::uint64_t low = 0, high = 0;
  const std::uint64_t second = page_of(address + size - 1);
  if (!has_both(address, second, Access::store)) return Outcome::postponed;
  if (!translate(address, Access::store, low)) return failed();
  if (!translate(second, Access::store, high)) return failed();
  const auto first_bytes = static_cast<unsigned>(second - address);
  if (!memory_.contains(low, first_bytes)) return access_fault(address, Access::store);
  if (!memory_.contains(high, size - first_bytes)) return access_fault(second, Access::store);
  dropped_ = false;
  store_to_memory(low, first_bytes, value);
  store_to_memory(high, size - first_bytes, value >> (8 * first_bytes));
  return done_or_refetch();
}

bool Core::may_use_devices() {
  if (!no_devices_) return true;
  wanted_ = {.device = true};
  postponed_ = true;
  return false;
}

DecodedPage* Core::slow_fetch(std::uint64_t pc) {
  std::uint64_t physical = 0;
  if (!translate(pc, Access::fetch, physical)) return nullptr;
  if (!memory_.contains(physical, 2)) {
    access_fault(pc, Access::fetch);
    return nullptr;
  }
  if (!has(physical, Permission::read)) return nullptr;
  DecodedPage& code = memory_.decoded(physical);
  Tlb& tlb = fetch_tlb();
  tlb.used = true;
  tlb.fetch[Tlb::index(pc)] = {page_of(pc), &code};
  return &code;
}

bool Core::fetch_half(std::uint64_t address, std::uint32_t& half) {
  const FetchEntry& entry = fetch_tlb().fetch[Tlb::index(address)];
  const DecodedPage* code = entry.tag == page_of(address) ? entry.page : slow_fetch(address);
  if (code == nullptr) return false;
  std::uint16_t bits = 0;
  std::memcpy(&bits, code->memory + address % kPageBytes, sizeof bits);
  half = bits;
  return true;
}

bool Core::fetch_across(std::uint64_t pc, std::uint32_t& bits) {
  std::uint32_t low = 0, high = 0;
  if (!fetch_half(pc, low) || !fetch_half(pc + 2, high)) return false;
  bits = low | high << 16;
  return true;
}

}  // namespace libft::machine
