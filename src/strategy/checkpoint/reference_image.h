// SPDX-License-Identifier: LGPL-2.1-or-later
// The ReferenceImage is the primary's copy of what it last sent for each page: deltas are made
// against it. Either of the whole guest, or of a hot set that a clock hand keeps to the most
// recently written pages. The encoder's thread calls it; between place() and settle() a worker may
// read and write the one slot it was given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace libft::checkpoint {

class ReferenceImage {
 public:
  enum class Held : std::uint8_t {
    nothing,  // What the peer holds is not known here.
    zero,     // The peer's page is zero; needs no memory.
    image,    // The slot holds the peer's page.
  };
  struct Place {
    std::byte* slot = nullptr;  // Memory for a page; null when there is none to spare.
    Held held = Held::nothing;
  };

  // 0 bytes: never holds anything. When the memory cannot be had, likewise.
  ReferenceImage(std::uint64_t pages, std::size_t page_bytes, std::uint64_t bytes_max);

  // Slots handed out since the last begin_wave() are not given to another page.
  void begin_wave() {
    ++wave_;
    pinned_ = 0;
  }
  Place place(std::uint64_t page);
  // What is now known of the page that place() was asked for.
  void settle(std::uint64_t page, Held held);
  void forget(std::uint64_t page) { settle(page, Held::nothing); }
  void clear();

  std::uint64_t bytes() const;  // Memory in use, tables included.

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Slot {
    std::uint32_t page = kNone;
    bool recent = false;
    std::uint64_t wave = 0;
  };
  bool whole() const { return slots_.empty(); }
  std::byte* slot_bytes(std::uint64_t slot) { return image_.get() + slot * page_bytes_; }
  std::uint32_t acquire();
  std::uint32_t evict();

  std::size_t page_bytes_;
  std::unique_ptr<std::byte[]> image_;
  std::vector<Held> held_;              // For each page.
  std::uint64_t touched_ = 0;           // Slots that were ever written: memory in use.
  std::vector<bool> touched_page_;      // Whole guest only.
  std::vector<std::uint32_t> slot_of_;  // Hot set only, for each page.
  std::vector<Slot> slots_;             // Hot set only.
  std::vector<std::uint32_t> free_;
  std::uint32_t hand_ = 0;
  std::uint64_t wave_ = 1, pinned_ = 0;
};

}  // namespace libft::checkpoint
