// SPDX-License-Identifier: LGPL-2.1-or-later
// The bulk frames: pages, device state, the begin and the end of an epoch (FORMAT.md, section 4).
// The encoder writes them in place, without a copy; the assembler reads them as views.
// Pure: bytes in, values out. What the pages mean is core/page_codec.h's business.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "libft/status.h"
#include "libft/types.h"
#include "wire/frame.h"

namespace libft::wire {

constexpr std::size_t kPageBytesMax = 2u << 20;
constexpr std::uint64_t kStateBytesMax = 64ull << 20;
constexpr std::size_t kStateChunkBytes = 1u << 20;

enum class Coding : std::uint8_t { zero = 0, delta = 1, raw = 2, unchanged = 3 };

struct PageEntry {
  PageNo page;
  Coding coding = Coding::raw;
  std::uint32_t checksum = 0;  // Of the decoded page.
  std::span<const std::byte> coded;
};
constexpr std::size_t kPageEntryBytes = 16;

// --- sync_pages and epoch_pages ----------------------------------------------------------------

// Builds one such frame in memory that the caller provides.
class PagesFrameWriter {
 public:
  // What surrounds the entries: frame header, base, sequence, and the header of record "pages".
  static constexpr std::size_t kOverheadBytes = kHeaderBytes + (8 + 16) + (8 + 8) + 8;
  static constexpr std::size_t bytes_needed(std::size_t pages, std::size_t page_bytes) {
    return kOverheadBytes + pages * (kPageEntryBytes + page_bytes);
  }

  PagesFrameWriter(std::span<std::byte> to, const FrameHeader& header, const EpochId& base,
                   std::uint64_t sequence);
  // Where the coded bytes of the next page go; then how many there were.
  std::span<std::byte> room() { return to_.subspan(used_ + kPageEntryBytes); }
  void add(PageNo page, Coding coding, std::size_t coded_bytes, std::uint32_t checksum);
  std::span<const std::byte> finish();  // The whole frame.

 private:
  std::span<std::byte> to_;
  FrameHeader header_;
  std::size_t used_;
};

struct PagesFrame {
  EpochId base;
  std::uint64_t sequence = 0;
  std::span<const std::byte> entries;
};
Result<PagesFrame> decode_pages(const Frame& frame);

// Takes the next entry off `entries`. REQUIRES: entries not empty.
Result<PageEntry> next_entry(std::span<const std::byte>& entries);

// --- the other bulk frames: encode beside decode -----------------------------------------------

struct EpochBegin {
  EpochId base;
  std::uint64_t pages = 0;
  std::uint64_t state_bytes = 0;  // Decoded.
  std::uint64_t state_coded_bytes = 0;
  Coding state_coding = Coding::raw;
  bool first = false, guest_ended = false, guest_paused = false;
  // The image only: the epoch itself travels as a log, and is acknowledged as such.
  bool rebase = false;
  // The backup is to run the guest from here (feature `compares`).
  bool run = false;
  std::uint8_t flags() const;
  bool operator==(const EpochBegin&) const = default;
};
void append_epoch_begin(std::vector<std::byte>& to, FrameHeader header, const EpochBegin& begin);
Result<EpochBegin> decode_epoch_begin(const Frame& frame);

struct StateChunk {
  EpochId base;
  std::uint64_t offset = 0;
  std::span<const std::byte> bytes;
};
void append_state_chunk(std::vector<std::byte>& to, FrameHeader header, const StateChunk& chunk);
Result<StateChunk> decode_state_chunk(const Frame& frame);

struct EpochEnd {
  EpochId base;
  std::uint64_t pages = 0, page_frames = 0;
  std::uint64_t checksum = 0;  // Over all that was decoded: see EpochChecksum in the strategy.
  bool operator==(const EpochEnd&) const = default;
};
void append_epoch_end(std::vector<std::byte>& to, FrameHeader header, const EpochEnd& end);
Result<EpochEnd> decode_epoch_end(const Frame& frame);

struct ProbeChunk {
  std::uint64_t state_bytes = 0, offset = 0, checksum = 0;  // Of the whole state.
  std::span<const std::byte> bytes;
};
void append_probe_chunk(std::vector<std::byte>& to, FrameHeader header, const ProbeChunk& chunk);
Result<ProbeChunk> decode_probe_chunk(const Frame& frame);

// A frame that came in for the guest during epoch `id`. The view lives as long as the frame.
std::vector<std::byte> encode_input_copy(const GuestId& guest, const EpochId& id,
                                         std::span<const std::byte> input);
Result<std::span<const std::byte>> decode_input_copy(const Frame& frame);

}  // namespace libft::wire
