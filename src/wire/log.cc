// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire/log.h"

#include <algorithm>

#include "base/checksum.h"
#include "wire/bulk.h"

namespace libft::wire {
namespace {

constexpr RecordType kInputs = 0x8060, kMark = 0x8061;
constexpr std::size_t kFrameBytes = 1u << 20;  // Of coded inputs in a frame.
constexpr std::size_t kMarkBytes = 4 * 8 + 1 + 8 + 8 + 16 + 8;
constexpr std::uint8_t kHash = 1, kEnded = 2, kPaused = 4;

void append_number(std::vector<std::byte>& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(std::byte(value | 0x80));
  to.push_back(std::byte(value));
}

std::optional<std::uint64_t> read_number(base::ByteReader& from) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const auto byte = from.read<std::uint8_t>();
    const std::uint64_t bits = byte & 0x7f;
    if (from.failed() || (shift == 63 && bits > 1)) return std::nullopt;
    value |= bits << shift;
    if (byte < 0x80) return value;
  }
  return std::nullopt;
}

std::uint8_t flags(const LogMark& mark) {
  return std::uint8_t((mark.hash ? kHash : 0) | (mark.guest_ended ? kEnded : 0) |
                      (mark.guest_paused ? kPaused : 0));
}

// All fields but the checksum.
void append_mark(std::vector<std::byte>& to, const LogMark& mark) {
  base::ByteAppender out(to);
  out.write<std::uint64_t>(mark.from.value);
  out.write<std::uint64_t>(mark.until.value);
  out.write<std::uint64_t>(mark.inputs);
  out.write<std::uint64_t>(mark.bytes);
  out.write<std::uint8_t>(flags(mark));
  out.write<std::uint64_t>(mark.hash.value_or(0));
  out.write<std::uint64_t>(mark.said);
  write_id(out, mark.released);
}

Result<LogMark> read_mark(base::ByteReader& from) {
  LogMark mark;
  mark.from.value = from.read<std::uint64_t>();
  mark.until.value = from.read<std::uint64_t>();
  mark.inputs = from.read<std::uint64_t>();
  mark.bytes = from.read<std::uint64_t>();
  const auto flags = from.read<std::uint8_t>();
  const auto hash = from.read<std::uint64_t>();
  mark.said = from.read<std::uint64_t>();
  mark.released = read_id(from);
  if (from.failed()) return failure(wrong(kMark, "wrong length"));
  if (mark.until < mark.from) return failure(wrong(kMark, "the log ends before it begins"));
  if (mark.bytes > kLogBytesMax || mark.inputs > mark.bytes)
    return failure(wrong(kMark, "a log of an impossible size"));
  if ((flags & ~(kHash | kEnded | kPaused)) != 0) return failure(wrong(kMark, "unknown flags"));
  if ((flags & kHash) == 0 && hash != 0) return failure(wrong(kMark, "a hash without its flag"));
  if (flags & kHash) mark.hash = hash;
  mark.guest_ended = flags & kEnded;
  mark.guest_paused = flags & kPaused;
  return mark;
}

}  // namespace

void append_input(std::vector<std::byte>& to, Position before, Position at,
                  const GuestInput& input) {
  FT_ASSERT(at >= before && input.bytes.size() <= kInputBytesMax);
  append_number(to, at.value - before.value);
  to.push_back(std::byte(input.kind));
  append_number(to, input.bytes.size());
  to.insert(to.end(), input.bytes.begin(), input.bytes.end());
}

Result<LoggedInput> next_input(std::span<const std::byte>& rest, Position before) {
  base::ByteReader from(rest);
  const auto distance = read_number(from);
  const auto kind = from.read<std::uint8_t>();
  const auto size = read_number(from);
  if (!distance || !size || *size > kInputBytesMax)
    return failure(wrong(kInputs, "a number that is none, or too large"));
  const auto bytes = from.bytes(*size);
  if (from.failed()) return failure(wrong(kInputs, "an input reaches beyond its log"));
  if (kind > std::uint8_t(GuestInput::Kind::schedule))
    return failure(wrong(kInputs, "unknown kind of input"));
  if (before.value + *distance < before.value)
    return failure(wrong(kInputs, "a position beyond 2^64"));
  rest = rest.subspan(rest.size() - from.left());
  return LoggedInput{Position{before.value + *distance},
                     {GuestInput::Kind(kind), {bytes.begin(), bytes.end()}}};
}

std::uint64_t log_checksum(const LogEpoch& epoch) {
  std::vector<std::byte> head;
  base::ByteAppender out(head);
  write_id(out, epoch.id);
  write_id(out, epoch.base);
  append_mark(head, epoch.mark);
  return base::checksum(head, epoch.coded);
}

std::vector<std::byte> encode_log(const GuestId& guest, const LogEpoch& epoch) {
  FrameHeader header;
  header.guest = guest.bytes();
  header.id = epoch.id;
  std::vector<std::byte> frames;
  std::span<const std::byte> rest = epoch.coded;
  for (std::uint64_t sequence = 0;; ++sequence) {
    const auto part = rest.first(std::min(rest.size(), kFrameBytes));
    rest = rest.subspan(part.size());
    FrameAppender frame(frames, FrameType::epoch_log, header);
    base::ByteAppender out(frames);
    write_base(out, epoch.base);
    write_sequence(out, sequence);
    if (!part.empty()) {
      write_record_header(out, kInputs, std::uint32_t(part.size()));
      out.bytes(part);
    }
    if (!rest.empty()) continue;
    write_record_header(out, kMark, kMarkBytes);
    append_mark(frames, epoch.mark);
    out.write<std::uint64_t>(log_checksum(epoch));
    break;
  }
  return frames;
}

Result<LogFrame> decode_log(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  LogFrame log;
  FT_ASSIGN(log.base, read_base(records));
  FT_ASSIGN(log.sequence, read_sequence(records));
  if (auto inputs = records.take(kInputs)) log.coded = inputs->bytes(inputs->left());
  if (auto mark = records.take(kMark)) {
    FT_ASSIGN(log.mark, read_mark(*mark));
    log.checksum = mark->read<std::uint64_t>();
    if (!mark->done()) return failure(wrong(kMark, "wrong length"));
  }
  FT_TRY(records.all_understood());
  return log;
}

}  // namespace libft::wire
