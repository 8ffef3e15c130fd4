// SPDX-License-Identifier: LGPL-2.1-or-later
// Sv39 (volume II, 4.3.2 and 4.4), with A and D set by hardware, atomically with the access: page
// tables are memory, and memory is the same in each replica.
#include <cstring>

#include "core.h"

namespace libft::machine {

namespace {

constexpr std::uint64_t kValid = bit(0), kRead = bit(1), kWrite = bit(2), kExecute = bit(3),
                        kUser = bit(4), kAccessed = bit(6), kDirty = bit(7);
constexpr std::uint64_t kReservedBits = ~std::uint64_t{0} << 54;
constexpr unsigned kLevels = 3, kIndexBits = 9;
constexpr std::uint64_t kSv39 = 8;

constexpr std::uint64_t frame_of(std::uint64_t entry) {
  return (entry >> 10 & (bit(44) - 1)) << 12;
}

bool canonical(std::uint64_t address) {
  const auto high = static_cast<std::int64_t>(address) >> 38;
  return high == 0 || high == -1;
}

}  // namespace

Mode Core::data_mode() const {
  if (hart.mode != Mode::machine || (hart.mstatus & kMprv) == 0) return hart.mode;
  return static_cast<Mode>(hart.mstatus >> kMppShift & 3);
}

Tlb& Core::data_tlb() {
  switch (data_mode()) {
    case Mode::machine: return tlbs_[kMachineContext];
    case Mode::supervisor:
      return tlbs_[(hart.mstatus & kSum) != 0 ? kSupervisorSumContext : kSupervisorContext];
    default: return tlbs_[kUserContext];
  }
}

Tlb& Core::fetch_tlb() {
  switch (hart.mode) {
    case Mode::machine: return tlbs_[kMachineContext];
    case Mode::supervisor: return tlbs_[kSupervisorContext];
    default: return tlbs_[kUserContext];
  }
}

bool Core::page_fault(std::uint64_t address, Access access) {
  const Cause cause = access == Access::fetch  ? Cause::fetch_page
                      : access == Access::load ? Cause::load_page
                                               : Cause::store_page;
  trap(cause, address);
  return false;
}

Core::Outcome Core::access_fault(std::uint64_t address, Access access) {
  const Cause cause = access == Access::fetch  ? Cause::fetch_access
                      : access == Access::load ? Cause::load_access
                                               : Cause::store_access;
  return trap(cause, address);
}

bool Core::permitted(std::uint64_t entry, Access access, Mode mode) const {
  const bool user = (entry & kUser) != 0;
  if (mode == Mode::user && !user) return false;
  if (mode == Mode::supervisor && user && (access == Access::fetch || (hart.mstatus & kSum) == 0)) {
    return false;
  }
  switch (access) {
    case Access::fetch: return (entry & kExecute) != 0;
    case Access::store: return (entry & kWrite) != 0;
    default: break;
  }
  return (entry & kRead) != 0 || ((hart.mstatus & kMxr) != 0 && (entry & kExecute) != 0);
}

bool Core::has_all(const Walk& way, Access access) {
  const bool store = access == Access::store;
  if (way.notes_use && !has(way.at, Permission::write)) return false;
  if (!memory_.contains(way.physical, 1)) return may_use_devices();
  return has(way.physical, store ? Permission::write : Permission::read);
}

bool Core::translate(std::uint64_t address, Access access, std::uint64_t& physical) {
  Walk way;
  if (!walk(address, access, way)) return false;
  physical = way.physical;
  if (!way.notes_use) return true;
  if (!has_all(way, access)) return false;
  memory_.prepare_table_update(way.at);
  std::memcpy(memory_.at(way.at), &way.entry, sizeof way.entry);
  return true;
}

bool Core::walk(std::uint64_t address, Access access, Walk& way) {
  postponed_ = false;
  const Mode mode = access == Access::fetch ? hart.mode : data_mode();
  if (mode == Mode::machine || hart.satp >> 60 != kSv39) {
    way.physical = address;
    return true;
  }
  if (!canonical(address)) return page_fault(address, access);
  std::uint64_t table = (hart.satp & (bit(44) - 1)) << 12;
  for (unsigned level = kLevels; level-- > 0;) {
    const unsigned shift = 12 + level * kIndexBits;
    const std::uint64_t at = table + (address >> shift & (bit(kIndexBits) - 1)) * 8;
    if (!memory_.contains(at, 8)) {
      access_fault(address, access);
      return false;
    }
    if (!has(at, Permission::read)) return false;
    memory_.walked(at);
    std::uint64_t entry = 0;
    std::memcpy(&entry, memory_.at(at), sizeof entry);
    if ((entry & kValid) == 0 || (entry & kReservedBits) != 0) return page_fault(address, access);
    if ((entry & (kRead | kWrite | kExecute)) == 0) {
      if ((entry & (kUser | kAccessed | kDirty)) != 0) return page_fault(address, access);
      table = frame_of(entry);
      continue;
    }
    const std::uint64_t within = bit(shift) - 1;
    if ((entry & (kRead | kWrite)) == kWrite || !permitted(entry, access, mode) ||
        (frame_of(entry) & within) != 0) {
      return page_fault(address, access);
    }
    const std::uint64_t used = entry | kAccessed | (access == Access::store ? kDirty : 0);
    way = {frame_of(entry) | (address & within), used != entry, at, used};
    return true;
  }
  return page_fault(address, access);
}

}  // namespace libft::machine
