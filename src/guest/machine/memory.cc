// SPDX-License-Identifier: LGPL-2.1-or-later
#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "interpreter.h"

namespace libft::machine {

namespace {

// A page into which so many stores went since it was decoded is data that was code once: it is
// worth more with fast stores than with its operations.
constexpr std::uint32_t kStoresMax = 64;

std::span<std::byte> map_bytes(std::uint64_t count) {
  void* mapped = ::mmap(nullptr, count, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  FT_ASSERT(mapped != MAP_FAILED);
  return {static_cast<std::byte*>(mapped), count};
}

}  // namespace

void reset_slots(DecodedPage& page) {
  std::ranges::fill(page.ops, Op{.handler = undecoded_handler()});
  page.ops.back().handler = next_page_handler();
  page.stores = 0;
}

Memory::Memory(std::uint64_t base, std::uint64_t bytes) : base_(base), bytes_(map_bytes(bytes)) {
  FT_ASSERT(base % kPageBytes == 0 && bytes % kPageBytes == 0);
  flags_.assign(pages(), kUnhashed);
  decoded_.resize(pages());
  page_hashes_.assign(pages(), 0);
}

Memory::~Memory() { ::munmap(bytes_.data(), bytes_.size()); }

void Memory::prepare_write(std::uint64_t address, std::uint64_t count) {
  prepare(address, count, true);
}

void Memory::prepare(std::uint64_t address, std::uint64_t count, bool outdates) {
  std::uint8_t& flags = flags_[page(address)];
  flags |= kWritten | kUnhashed;
  if ((flags & kCode) != 0) drop_code(address, count);
  if ((flags & kTable) != 0 && outdates) drop_translations();
}

// An instruction begins at most two bytes before the first byte that it shares with the store.
void Memory::drop_code(std::uint64_t address, std::uint64_t count) {
  DecodedPage& code = *decoded_[page(address)];
  if (++code.stores > kStoresMax) {
    flags_[page(address)] &= static_cast<std::uint8_t>(~kCode);
    reset_slots(code);
    drop_translations();  // So that whoever comes back to this page says so, through decoded().
    return;
  }
  const std::uint64_t offset = address % kPageBytes;
  const std::uint64_t first = offset / 2 == 0 ? 0 : offset / 2 - 1;
  const std::uint64_t last = (offset + count - 1) / 2;
  for (std::uint64_t slot = first; slot <= last; ++slot)
    code.ops[slot].handler = undecoded_handler();
}

void Memory::drop_translations() {
  for (Translations* core : observers_) core->drop_all();
  for (const std::uint64_t table : tables_) flags_[table] &= static_cast<std::uint8_t>(~kTable);
  tables_.clear();
}

void Memory::walked(std::uint64_t address) {
  std::uint8_t& flags = flags_[page(address)];
  if ((flags & kTable) != 0) return;
  flags |= kTable;
  tables_.push_back(page(address));
  for (Translations* core : observers_) core->drop_writable(at(address & ~(kPageBytes - 1)));
}

void Memory::write(std::uint64_t address, std::span<const std::byte> from) {
  FT_ASSERT(contains(address, from.size()));
  while (!from.empty()) {
    const std::size_t some =
        std::min<std::uint64_t>(from.size(), kPageBytes - address % kPageBytes);
    prepare_write(address, some);
    std::memcpy(at(address), from.data(), some);
    address += some;
    from = from.subspan(some);
  }
}

DecodedPage& Memory::decoded(std::uint64_t address) {
  const std::uint64_t number = page(address);
  std::unique_ptr<DecodedPage>& code = decoded_[number];
  if (!code) {
    code = std::make_unique<DecodedPage>();
    code->memory = bytes_.data() + number * kPageBytes;
    reset_slots(*code);
  }
  if ((flags_[number] & kCode) == 0) {
    flags_[number] |= kCode;
    for (Translations* core : observers_) core->drop_writable(code->memory);
  }
  return *code;
}

void Memory::close_all() {
  for (Translations* core : observers_) core->drop_writable();
}

void Memory::clear_written() {
  for (std::uint8_t& flags : flags_) flags &= static_cast<std::uint8_t>(~kWritten);
  close_all();
}

void Memory::take_written(PageSet& written) {
  written.clear();
  for (std::uint64_t i = 0; i < flags_.size(); ++i)
    if ((flags_[i] & kWritten) != 0) written.add(PageNo{base_ / kPageBytes + i});
  clear_written();
}

std::uint64_t Memory::hash() {
  for (std::uint64_t i = 0; i < flags_.size(); ++i) {
    if ((flags_[i] & kUnhashed) == 0) continue;
    std::array<std::byte, 8> number;
    base::store_le(number.data(), i);
    const std::uint64_t fresh = base::checksum(number, bytes_.subspan(i * kPageBytes, kPageBytes));
    hash_ ^= page_hashes_[i] ^ fresh;
    page_hashes_[i] = fresh;
    flags_[i] &= static_cast<std::uint8_t>(~kUnhashed);
  }
  close_all();
  return hash_;
}

void Memory::forget() {
  drop_translations();
  for (std::uint8_t& flags : flags_) flags = kUnhashed | kWritten;
  for (std::unique_ptr<DecodedPage>& code : decoded_) code.reset();
  close_all();
}

}  // namespace libft::machine
