// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire/pages.h"

#include <fmt/format.h>

#include "wire/bulk.h"

namespace libft::wire {
namespace {

constexpr RecordType kPages = 0x8042, kPlan = 0x8043, kState = 0x8044, kTotals = 0x8045,
                     kProbe = 0x8046, kInput = 0x8050;
constexpr unsigned kCodingShift = 56;
constexpr std::uint8_t kFirst = 1, kEnded = 2, kPaused = 4, kRebase = 8, kRun = 16;

}  // namespace

// --- sync_pages and epoch_pages ----------------------------------------------------------------

PagesFrameWriter::PagesFrameWriter(std::span<std::byte> to, const FrameHeader& header,
                                   const EpochId& base, std::uint64_t sequence)
    : to_(to), header_(header), used_(kOverheadBytes) {
  base::ByteWriter writer(to_.subspan(kHeaderBytes));
  write_base(writer, base);
  write_sequence(writer, sequence);
  write_record_header(writer, kPages, 0);  // The length follows in finish().
  FT_ASSERT(kHeaderBytes + writer.used() == kOverheadBytes);
}

void PagesFrameWriter::add(PageNo page, Coding coding, std::size_t coded_bytes,
                           std::uint32_t checksum) {
  FT_ASSERT(page.value < (1ull << kCodingShift));
  base::ByteWriter writer(to_.subspan(used_, kPageEntryBytes));
  writer.write<std::uint64_t>(page.value | std::uint64_t(coding) << kCodingShift);
  writer.write<std::uint32_t>(std::uint32_t(coded_bytes));
  writer.write<std::uint32_t>(checksum);
  used_ += kPageEntryBytes + coded_bytes;
}

std::span<const std::byte> PagesFrameWriter::finish() {
  base::store_le(to_.data() + kOverheadBytes - 4, std::uint32_t(used_ - kOverheadBytes));
  const auto frame = to_.first(used_);
  write_header(frame, header_, frame.subspan(kHeaderBytes));
  return frame;
}

Result<PagesFrame> decode_pages(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  PagesFrame pages;
  FT_ASSIGN(pages.base, read_base(records));
  FT_ASSIGN(pages.sequence, read_sequence(records));
  FT_ASSIGN(auto entries, records.require(kPages));
  pages.entries = entries.bytes(entries.left());
  FT_TRY(records.all_understood());
  return pages;
}

Result<PageEntry> next_entry(std::span<const std::byte>& entries) {
  base::ByteReader reader(entries);
  const auto word = reader.read<std::uint64_t>();
  const auto length = reader.read<std::uint32_t>();
  PageEntry entry;
  entry.checksum = reader.read<std::uint32_t>();
  entry.coded = reader.bytes(length);
  if (reader.failed()) return failure(wrong(kPages, "a page entry reaches beyond its frame"));
  entry.page.value = word & ((1ull << kCodingShift) - 1);
  entry.coding = Coding(word >> kCodingShift);
  if (entry.coding > Coding::unchanged) return failure(wrong(kPages, "unknown page coding"));
  entries = entries.subspan(entries.size() - reader.left());
  return entry;
}

// --- epoch_begin -------------------------------------------------------------------------------

std::uint8_t EpochBegin::flags() const {
  return std::uint8_t((first ? kFirst : 0) | (guest_ended ? kEnded : 0) |
                      (guest_paused ? kPaused : 0) | (rebase ? kRebase : 0) | (run ? kRun : 0));
}

void append_epoch_begin(std::vector<std::byte>& to, FrameHeader header, const EpochBegin& begin) {
  FrameAppender frame(to, FrameType::epoch_begin, header);
  base::ByteAppender out(to);
  write_base(out, begin.base);
  write_record_header(out, kPlan, 28);
  out.write<std::uint64_t>(begin.pages);
  out.write<std::uint64_t>(begin.state_bytes);
  out.write<std::uint64_t>(begin.state_coded_bytes);
  out.write<std::uint8_t>(std::uint8_t(begin.state_coding));
  out.write<std::uint8_t>(begin.flags());
  out.write<std::uint16_t>(0);
}

Result<EpochBegin> decode_epoch_begin(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  EpochBegin begin;
  FT_ASSIGN(begin.base, read_base(records));
  FT_ASSIGN(auto plan, records.require(kPlan));
  begin.pages = plan.read<std::uint64_t>();
  begin.state_bytes = plan.read<std::uint64_t>();
  begin.state_coded_bytes = plan.read<std::uint64_t>();
  begin.state_coding = Coding(plan.read<std::uint8_t>());
  const auto flags = plan.read<std::uint8_t>();
  const auto zero = plan.read<std::uint16_t>();
  if (!plan.done()) return failure(wrong(kPlan, "wrong length"));
  if (begin.state_bytes > kStateBytesMax || begin.state_coded_bytes > begin.state_bytes)
    return failure(wrong(kPlan, "a device state of an impossible size"));
  if (begin.state_coding != Coding::raw && begin.state_coding != Coding::delta)
    return failure(wrong(kPlan, "unknown coding of the device state"));
  if (begin.state_coding == Coding::raw && begin.state_coded_bytes != begin.state_bytes)
    return failure(wrong(kPlan, "a raw device state that is not as long as itself"));
  if ((flags & ~(kFirst | kEnded | kPaused | kRebase | kRun)) != 0 || zero != 0)
    return failure(wrong(kPlan, "unknown flags"));
  begin.first = flags & kFirst;
  begin.guest_ended = flags & kEnded;
  begin.guest_paused = flags & kPaused;
  begin.rebase = flags & kRebase;
  begin.run = flags & kRun;
  if (begin.first && begin.rebase)
    return failure(wrong(kPlan, "the first image cannot replace another"));
  if (begin.rebase && begin.run)
    return failure(wrong(kPlan, "a guest to be run from an image beside a log"));
  FT_TRY(records.all_understood());
  return begin;
}

// --- epoch_state -------------------------------------------------------------------------------

void append_state_chunk(std::vector<std::byte>& to, FrameHeader header, const StateChunk& chunk) {
  FrameAppender frame(to, FrameType::epoch_state, header);
  base::ByteAppender out(to);
  write_base(out, chunk.base);
  write_record_header(out, kState, std::uint32_t(8 + chunk.bytes.size()));
  out.write<std::uint64_t>(chunk.offset);
  out.bytes(chunk.bytes);
}

Result<StateChunk> decode_state_chunk(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  StateChunk chunk;
  FT_ASSIGN(chunk.base, read_base(records));
  FT_ASSIGN(auto state, records.require(kState));
  chunk.offset = state.read<std::uint64_t>();
  chunk.bytes = state.bytes(state.left());
  if (!state.done() || chunk.bytes.empty()) return failure(wrong(kState, "wrong length"));
  FT_TRY(records.all_understood());
  return chunk;
}

// --- epoch_end ---------------------------------------------------------------------------------

void append_epoch_end(std::vector<std::byte>& to, FrameHeader header, const EpochEnd& end) {
  FrameAppender frame(to, FrameType::epoch_end, header);
  base::ByteAppender out(to);
  write_base(out, end.base);
  write_record_header(out, kTotals, 24);
  out.write<std::uint64_t>(end.pages);
  out.write<std::uint64_t>(end.page_frames);
  out.write<std::uint64_t>(end.checksum);
}

Result<EpochEnd> decode_epoch_end(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  EpochEnd end;
  FT_ASSIGN(end.base, read_base(records));
  FT_ASSIGN(auto totals, records.require(kTotals));
  end.pages = totals.read<std::uint64_t>();
  end.page_frames = totals.read<std::uint64_t>();
  end.checksum = totals.read<std::uint64_t>();
  if (!totals.done()) return failure(wrong(kTotals, "wrong length"));
  FT_TRY(records.all_understood());
  return end;
}

// --- probe_state -------------------------------------------------------------------------------

void append_probe_chunk(std::vector<std::byte>& to, FrameHeader header, const ProbeChunk& chunk) {
  FrameAppender frame(to, FrameType::probe_state, header);
  base::ByteAppender out(to);
  write_record_header(out, kProbe, std::uint32_t(24 + chunk.bytes.size()));
  out.write<std::uint64_t>(chunk.state_bytes);
  out.write<std::uint64_t>(chunk.offset);
  out.write<std::uint64_t>(chunk.checksum);
  out.bytes(chunk.bytes);
}

Result<ProbeChunk> decode_probe_chunk(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  FT_ASSIGN(auto probe, records.require(kProbe));
  ProbeChunk chunk;
  chunk.state_bytes = probe.read<std::uint64_t>();
  chunk.offset = probe.read<std::uint64_t>();
  chunk.checksum = probe.read<std::uint64_t>();
  chunk.bytes = probe.bytes(probe.left());
  if (!probe.done()) return failure(wrong(kProbe, "wrong length"));
  if (chunk.state_bytes > kStateBytesMax || chunk.bytes.size() > chunk.state_bytes)
    return failure(wrong(kProbe, "a device state of an impossible size"));
  FT_TRY(records.all_understood());
  return chunk;
}

// --- input_copy --------------------------------------------------------------------------------

static void append_input_copy(std::vector<std::byte>& to, const FrameHeader& header,
                              std::span<const std::byte> input) {
  FrameAppender frame(to, FrameType::input_copy, header);
  base::ByteAppender out(to);
  write_record_header(out, kInput, std::uint32_t(input.size()));
  out.bytes(input);
}

std::vector<std::byte> encode_input_copy(const GuestId& guest, const EpochId& id,
                                         std::span<const std::byte> input) {
  FrameHeader header;
  header.flags = kFlagSkippable;
  header.guest = guest.bytes();
  header.id = id;
  std::vector<std::byte> bytes;
  bytes.reserve(kHeaderBytes + kRecordHeaderBytes + input.size());
  append_input_copy(bytes, header, input);
  return bytes;
}

Result<std::span<const std::byte>> decode_input_copy(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  FT_ASSIGN(auto input, records.require(kInput));
  FT_TRY(records.all_understood());
  return input.bytes(input.left());
}

}  // namespace libft::wire
