// SPDX-License-Identifier: LGPL-2.1-or-later
// Memory is the machine's RAM and what is known of each page: written since somebody asked, decoded
// as code, walked as a page table. One mechanism answers all of it: a page is *open*, and only then
// in any core's write TLB, while a store to it would change nothing that is known. The first store
// to a page that is not open goes the slow way, through prepare_write().
//
// That makes the interpreter's caches invisible: a store to a page that was decoded or walked takes
// effect on the next instruction, with or without FENCE.I and SFENCE.VMA. So caches are no state:
// a machine that was loaded from a checkpoint, with cold caches, executes the same as one that goes
// on.
//
// Harts on threads of their own (crew.h) have a *view* each: the same bytes, but flags and decoded
// pages of its own, and the permission to read or write a page as one more reason why a page is not
// open. One thread for each view.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "libft/page_set.h"
#include "op.h"

namespace libft::machine {

// A core's translations, as far as Memory must take them back.
class Translations {
 public:
  virtual void drop_writable(const std::byte* page) = 0;  // Of one page.
  virtual void drop_writable() = 0;                       // Of all pages.
  virtual void drop_page(const std::byte* page, const DecodedPage* code) = 0;
  virtual void drop_all() = 0;

 protected:
  ~Translations() = default;
};

// Who has views of a memory.
class MemoryViews {
 public:
  virtual void take_back(std::uint64_t page) = 0;  // A device is about to write to it.
  virtual void gather() = 0;                       // What they wrote goes to absorb().
  virtual void forget() = 0;

 protected:
  ~MemoryViews() = default;
};

enum class Permission : std::uint8_t { none, read, write };

class Memory {
 public:
  Memory(std::uint64_t base, std::uint64_t bytes);         // Whole pages.
  Memory(std::uint64_t base, std::span<std::byte> bytes);  // Somebody else's, who outlives it.
  struct ViewOf {
    Memory& memory;  // Outlives the view.
  };
  explicit Memory(ViewOf of);  // With permission for nothing.
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::uint64_t base() const { return base_; }
  std::span<std::byte> bytes() const { return bytes_; }
  std::uint64_t pages() const { return bytes_.size() / kPageBytes; }
  bool contains(std::uint64_t address, std::uint64_t count) const {
    return address >= base_ && count <= bytes_.size() && address - base_ <= bytes_.size() - count;
  }
  std::byte* at(std::uint64_t address) const { return bytes_.data() + (address - base_); }

  void add_observer(Translations& core) { observers_.push_back(&core); }

  // Before `count` bytes, all on one page, are stored to `address`.
  void prepare_write(std::uint64_t address, std::uint64_t count);
  // Whether stores to the page of `address` may go on without prepare_write().
  bool open(std::uint64_t address) const { return flags_[page(address)] == open_flags_; }
  // As prepare_write(), for what hardware writes into a page table entry: A and D only ever permit
  // more, so that no translation is outdated by them.
  void prepare_table_update(std::uint64_t address) { prepare(address, 8, false); }
  void walked(std::uint64_t address);  // The page of `address` was read as a page table.

  // For devices: any range within RAM. REQUIRES: contains().
  void write(std::uint64_t address, std::span<const std::byte> from);

  // The page of `address` as code, decoded or about to be.
  DecodedPage& decoded(std::uint64_t address);

  // --- Views --------------------------------------------------------------------------------

  void set_views(MemoryViews* views) { views_ = views; }
  std::uint64_t page(std::uint64_t address) const { return (address - base_) / kPageBytes; }
  bool permits(std::uint64_t address, Permission wanted) const {
    const std::uint8_t bit = wanted == Permission::write ? kMayWrite : kMayRead;
    return ((flags_[page(address)] | always_) & bit) != 0;
  }
  // Takes effect on the next instruction; a view that may not read knows nothing of the page.
  void permit(std::uint64_t page, Permission permission);
  void forbid_all();
  void absorb(Memory& view);  // What was written through it, which then begins anew.

  void clear_written();
  void take_written(PageSet& pages);  // And begins anew. Page numbers are addresses / kPageBytes.

  // A hash over all of memory: the pages' hashes in exclusive or, of which only those of pages that
  // were written since the last call are computed again. Nothing here is linear in memory's size.
  std::uint64_t hash();
  std::uint64_t unhashed() const { return unhashed_.size(); }  // What hash() would cost, in pages.

  // Memory was changed behind our back, or is another one now.
  void forget();

 private:
  enum Flag : std::uint8_t {
    kWritten = 1,
    kUnhashed = 2,
    kCode = 4,
    kTable = 8,
    kMayRead = 16,  // Of views.
    kMayWrite = 32,
  };

  Memory(std::uint64_t base, std::span<std::byte> bytes, bool owns);
  void prepare(std::uint64_t address, std::uint64_t count, bool drop_translations);
  void drop_code(std::uint64_t address, std::uint64_t count);
  void drop_translations();
  void close_all();
  void note_write(std::uint64_t number);
  void clear_flag(std::vector<std::uint64_t>& pages, Flag flag);

  std::uint64_t base_;
  std::span<std::byte> bytes_;
  std::vector<std::uint8_t> flags_;
  std::vector<std::unique_ptr<DecodedPage>> decoded_;
  std::vector<std::uint64_t> tables_, written_, unhashed_;  // Pages with that flag.
  std::vector<std::uint64_t> page_hashes_;
  std::uint64_t hash_ = 0;
  std::vector<Translations*> observers_;
  const bool owns_bytes_;
  const std::uint8_t open_flags_, always_;
  MemoryViews* views_ = nullptr;
};

// The slot that decodes itself when it is executed, and the one behind the last.
void reset_slots(DecodedPage& page);

}  // namespace libft::machine
