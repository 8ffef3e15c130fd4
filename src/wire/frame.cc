// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire/frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/checksum.h"

namespace libft::wire {
namespace {

// FORMAT.md, section 1.
constexpr std::array<std::byte, 4> kMagic = {std::byte{'L'}, std::byte{'B'}, std::byte{'F'},
                                             std::byte{'T'}};
constexpr std::size_t kChecksumAt = 56;
constexpr std::uint32_t kFlagsMustKnow = 0xffff0000;
constexpr std::size_t kBufferBytesFirst = 64u << 10;
// A buffer never holds more than one frame of the greatest size and what came in behind it.
constexpr std::size_t kBufferBytesMax = 2 * (kHeaderBytes + kPayloadBytesMax);

std::uint64_t frame_checksum(std::span<const std::byte> header,
                             std::span<const std::byte> payload) {
  std::array<std::byte, kHeaderBytes> zeroed;
  std::copy(header.begin(), header.end(), zeroed.begin());
  base::store_le<std::uint64_t>(zeroed.data() + kChecksumAt, 0);
  return base::checksum(zeroed, payload);
}

bool known(FrameType type) {
  return (type >= FrameType::hello && type <= FrameType::hold) ||
         (type >= FrameType::sync_pages && type <= FrameType::frames_out);
}

FrameHeader parse_header(std::span<const std::byte> bytes) {
  base::ByteReader reader(bytes);
  FrameHeader header;
  reader.bytes(kMagic.size());
  header.version = reader.read<std::uint16_t>();
  header.type = FrameType(reader.read<std::uint16_t>());
  header.flags = reader.read<std::uint32_t>();
  header.payload_bytes = reader.read<std::uint32_t>();
  std::memcpy(header.guest.data(), reader.bytes(header.guest.size()).data(), header.guest.size());
  header.id.generation.value = reader.read<std::uint64_t>();
  header.id.epoch.value = reader.read<std::uint64_t>();
  return header;
}

Status check_magic(std::span<const std::byte> bytes) {
  const std::size_t here = std::min(bytes.size(), kMagic.size());
  if (std::equal(bytes.begin(), bytes.begin() + std::ptrdiff_t(here), kMagic.begin())) return {};
  std::string hex;
  for (std::byte b : bytes.first(here)) hex += fmt::format(" {:02x}", unsigned(b));
  return Status(Code::corrupt,
                fmt::format("these bytes are not libft's (they begin with{}): is the other side "
                            "libft, with the same encryption setting?",
                            hex));
}

Status check_understood(const FrameHeader& header,
                        const std::optional<std::array<std::uint8_t, 16>>& guest) {
  if (header.version < kVersionOldest || header.version > kVersion)
    return Status(Code::unsupported,
                  fmt::format("the peer speaks wire version {}, this libft {} to {}: install "
                              "matching versions",
                              header.version, kVersionOldest, kVersion));
  if (guest && header.guest != *guest)
    return Status(Code::refused, "a frame of another guest: the connection carries one guest only");
  if (header.flags & kFlagsMustKnow)
    return Status(Code::unsupported, fmt::format("unknown frame flags {:08x}", header.flags));
  if (!known(header.type) && !(header.flags & kFlagSkippable))
    return Status(Code::unsupported, fmt::format("unknown frame type {}", unsigned(header.type)));
  return {};
}

}  // namespace

bool is_bulk(FrameType type) { return type >= FrameType::sync_pages; }

void write_header(std::span<std::byte> at, const FrameHeader& header,
                  std::span<const std::byte> payload) {
  FT_ASSERT(payload.size() <= kPayloadBytesMax);
  base::ByteWriter writer(at.first(kHeaderBytes));
  writer.bytes(kMagic);
  writer.write<std::uint16_t>(header.version);
  writer.write<std::uint16_t>(std::uint16_t(header.type));
  writer.write<std::uint32_t>(header.flags);
  writer.write<std::uint32_t>(std::uint32_t(payload.size()));
  writer.bytes(std::as_bytes(std::span(header.guest)));
  writer.write<std::uint64_t>(header.id.generation.value);
  writer.write<std::uint64_t>(header.id.epoch.value);
  writer.write<std::uint64_t>(0);
  writer.write<std::uint64_t>(0);
  base::store_le(at.data() + kChecksumAt, frame_checksum(at.first(kHeaderBytes), payload));
}

FrameReader::FrameReader(const GuestId& guest) : guest_(guest.bytes()) {}
FrameReader::FrameReader() = default;

std::span<std::byte> FrameReader::space() {
  if (begin_ == end_) begin_ = end_ = 0;
  // Moving the rest to the front when a quarter is left keeps the copying below one byte a byte.
  if (begin_ > 0 && buffer_.size() - end_ < buffer_.size() / 4) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) {
    // Grows only with bytes that really came: a stranger's header alone reserves nothing.
    const std::size_t wanted = std::max(kBufferBytesFirst, 2 * buffer_.size());
    buffer_.resize(std::max(std::min(wanted, kBufferBytesMax), end_ + kHeaderBytes));
  }
  return std::span(buffer_).subspan(end_);
}

void FrameReader::stored(std::size_t bytes) {
  FT_ASSERT(bytes <= buffer_.size() - end_);
  end_ += bytes;
}

Result<std::optional<Frame>> FrameReader::next() {
  if (broken_)
    return failure(Code::corrupt, "the stream was corrupt before: close this connection");
  auto frame = cut();
  if (!frame) broken_ = true;
  return frame;
}

Result<std::optional<Frame>> FrameReader::cut() {
  for (;;) {
    const auto here = std::span<const std::byte>(buffer_).subspan(begin_, end_ - begin_);
    FT_TRY(check_magic(here));
    if (here.size() < kHeaderBytes) return std::nullopt;
    const FrameHeader header = parse_header(here.first(kHeaderBytes));
    if (header.payload_bytes > kPayloadBytesMax)
      return failure(Code::corrupt, fmt::format("a frame of {} bytes; the limit is {}",
                                                header.payload_bytes, kPayloadBytesMax));
    const std::size_t whole = kHeaderBytes + header.payload_bytes;
    if (here.size() < whole) return std::nullopt;
    const auto payload = here.subspan(kHeaderBytes, header.payload_bytes);
    if (frame_checksum(here.first(kHeaderBytes), payload) !=
        base::load_le<std::uint64_t>(here.data() + kChecksumAt))
      return failure(Code::corrupt,
                     fmt::format("checksum of a frame of type {}, epoch {} does not match",
                                 unsigned(header.type), to_string(header.id)));
    FT_TRY(check_understood(header, guest_));
    begin_ += whole;
    if (known(header.type)) return Frame{header, payload};
  }
}

}  // namespace libft::wire
