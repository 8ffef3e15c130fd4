// SPDX-License-Identifier: LGPL-2.1-or-later
#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <numeric>

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

Memory::Memory(std::uint64_t base, std::uint64_t bytes) : Memory(base, map_bytes(bytes), true) {}

Memory::Memory(std::uint64_t base, std::span<std::byte> bytes) : Memory(base, bytes, false) {}

Memory::Memory(std::uint64_t base, std::span<std::byte> bytes, bool owns)
    : base_(base),
      bytes_(bytes),
      owns_bytes_(owns),
      open_flags_(kWritten | kUnhashed),
      always_(kMayRead | kMayWrite) {
  FT_ASSERT(base % kPageBytes == 0 && bytes.size() % kPageBytes == 0);
  flags_.assign(pages(), kUnhashed);
  unhashed_.resize(pages());
  std::iota(unhashed_.begin(), unhashed_.end(), std::uint64_t{0});
  decoded_.resize(pages());
  page_hashes_.assign(pages(), 0);
}

Memory::Memory(ViewOf of)
    : base_(of.memory.base_),
      bytes_(of.memory.bytes_),
      owns_bytes_(false),
      open_flags_(kWritten | kUnhashed | kMayRead | kMayWrite),
      always_(0) {
  flags_.assign(pages(), 0);
  decoded_.resize(pages());
}

Memory::~Memory() {
  if (owns_bytes_) ::munmap(bytes_.data(), bytes_.size());
}

void Memory::prepare_write(std::uint64_t address, std::uint64_t count) {
  prepare(address, count, true);
}

void Memory::prepare(std::uint64_t address, std::uint64_t count, bool outdates) {
  const std::uint8_t& flags = flags_[page(address)];
  if (views_ != nullptr) views_->take_back(page(address));
  note_write(page(address));
  if ((flags & kCode) != 0) drop_code(address, count);
  if ((flags & kTable) != 0 && outdates) drop_translations();
}

void Memory::note_write(std::uint64_t number) {
  std::uint8_t& flags = flags_[number];
  if ((flags & kWritten) == 0) written_.push_back(number);
  if ((flags & kUnhashed) == 0) unhashed_.push_back(number);
  flags |= kWritten | kUnhashed;
}

void Memory::clear_flag(std::vector<std::uint64_t>& pages, Flag flag) {
  for (const std::uint64_t number : pages) flags_[number] &= static_cast<std::uint8_t>(~flag);
  pages.clear();
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
  clear_flag(tables_, kTable);
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

void Memory::permit(std::uint64_t number, Permission permission) {
  std::uint8_t& flags = flags_[number];
  const std::uint8_t before = flags;
  flags &= static_cast<std::uint8_t>(~(kMayRead | kMayWrite));
  if (permission != Permission::none) flags |= kMayRead;
  if (permission == Permission::write) flags |= kMayWrite;
  const std::byte* const bytes = bytes_.data() + number * kPageBytes;
  if ((flags & kMayRead) != 0) {
    if ((before & kMayWrite & ~flags) != 0)
      for (Translations* core : observers_) core->drop_writable(bytes);
    return;
  }
  if ((before & kMayRead) == 0) return;
  DecodedPage* const code = decoded_[number].get();
  for (Translations* core : observers_) core->drop_page(bytes, code);
  if ((flags & kTable) != 0) drop_translations();
  if ((flags & kCode) != 0) reset_slots(*code);
  flags &= static_cast<std::uint8_t>(~kCode);
}

void Memory::forbid_all() {
  drop_translations();
  for (std::uint64_t number = 0; number < pages(); ++number) permit(number, Permission::none);
}

void Memory::absorb(Memory& view) {
  for (const std::uint64_t number : view.written_) note_write(number);
  for (const std::uint64_t number : view.unhashed_) note_write(number);
  view.clear_flag(view.written_, kWritten);
  view.clear_flag(view.unhashed_, kUnhashed);
  view.close_all();
}

void Memory::clear_written() {
  if (views_ != nullptr) views_->gather();
  clear_flag(written_, kWritten);
  close_all();
}

void Memory::take_written(PageSet& written) {
  if (views_ != nullptr) views_->gather();
  written.clear();
  std::ranges::sort(written_);
  for (const std::uint64_t number : written_) written.add(PageNo{base_ / kPageBytes + number});
  clear_written();
}

std::uint64_t Memory::hash() {
  if (views_ != nullptr) views_->gather();
  for (const std::uint64_t i : unhashed_) {
    std::array<std::byte, 8> number;
    base::store_le(number.data(), i);
    const std::uint64_t fresh = base::checksum(number, bytes_.subspan(i * kPageBytes, kPageBytes));
    hash_ ^= page_hashes_[i] ^ fresh;
    page_hashes_[i] = fresh;
  }
  clear_flag(unhashed_, kUnhashed);
  close_all();
  return hash_;
}

void Memory::forget() {
  if (views_ != nullptr) views_->forget();
  drop_translations();
  std::ranges::fill(flags_, std::uint8_t{0});
  written_.clear(), unhashed_.clear();
  for (std::uint64_t number = 0; number < pages(); ++number) note_write(number);
  for (std::unique_ptr<DecodedPage>& code : decoded_) code.reset();
  close_all();
}

}  // namespace libft::machine
