// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire/copies.h"

#include <utility>

#include "base/assert.h"
#include "base/bytes.h"
#include "wire/bulk.h"

namespace libft::wire {
namespace {

constexpr RecordType kCopies = 0x8051;
constexpr std::size_t kCopyHeaderBytes = 5;

}  // namespace

void CopiesWriter::add(const EpochId& from, const FrameCopy& copy) {
  FT_ASSERT(copy.nic < 256 && copy.bytes.size() <= kCopyBytesMax);
  const bool full =
      bytes_.size() - frame_at_ + kCopyHeaderBytes + copy.bytes.size() > kCopiesBytesMax;
  if (open_ && (from != from_ || full)) finish();
  if (!open_) {
    frame_at_ = bytes_.size();
    bytes_.resize(frame_at_ + kHeaderBytes + kRecordHeaderBytes);
    from_ = from;
    open_ = true;
  }
  base::ByteAppender out(bytes_);
  out.write<std::uint8_t>(static_cast<std::uint8_t>(copy.nic));
  out.write<std::uint32_t>(static_cast<std::uint32_t>(copy.bytes.size()));
  out.bytes(copy.bytes);
}

// Header space first, headers last: what they say is known then.
void CopiesWriter::finish() {
  const auto frame = std::span(bytes_).subspan(frame_at_);
  const auto payload = frame.subspan(kHeaderBytes);
  base::ByteWriter record(payload.first(kRecordHeaderBytes));
  write_record_header(record, kCopies,
                      static_cast<std::uint32_t>(payload.size() - kRecordHeaderBytes));
  FrameHeader header;
  header.type = type_;
  header.guest = guest_.bytes();
  header.id = from_;
  write_header(frame, header, payload);
  open_ = false;
}

std::vector<std::byte> CopiesWriter::take() {
  if (open_) finish();
  return std::exchange(bytes_, {});
}

Result<std::vector<FrameCopy>> decode_copies(const Frame& frame) {
  FT_ASSIGN(auto records, Records::parse(frame.payload));
  FT_ASSIGN(auto reader, records.require(kCopies));
  FT_TRY(records.all_understood());
  std::vector<FrameCopy> copies;
  while (reader.left() > 0) {
    FrameCopy copy;
    copy.nic = reader.read<std::uint8_t>();
    const auto length = reader.read<std::uint32_t>();
    copy.bytes = reader.bytes(length);
    if (reader.failed() || length > kCopyBytesMax)
      return failure(wrong(kCopies, "a frame longer than any, or than what is there of it"));
    copies.push_back(copy);
  }
  if (copies.empty()) return failure(wrong(kCopies, "no frame in it"));
  return copies;
}

}  // namespace libft::wire
