// SPDX-License-Identifier: LGPL-2.1-or-later
// Records are what a frame's payload is made of (FORMAT.md, section 2). This is the one place that
// writes and walks them; message.cc and pages.cc say which there are. Views; no locks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "libft/status.h"

namespace libft::wire {

using RecordType = std::uint16_t;
constexpr RecordType kMandatory = 0x8000;
constexpr std::size_t kRecordHeaderBytes = 8;
constexpr std::size_t kRecordsMax = 64;

template <class Writer>  // base::ByteWriter or base::ByteAppender
void write_record_header(Writer& to, RecordType type, std::uint32_t length) {
  to.template write<std::uint16_t>(type);
  to.template write<std::uint16_t>(0);
  to.template write<std::uint32_t>(length);
}

// The records of one payload. Each is taken by its type; what nobody took decides, by its bit 15,
// whether the frame can be understood at all.
class Records {
 public:
  static Result<Records> parse(std::span<const std::byte> payload);

  std::optional<base::ByteReader> take(RecordType type);
  Result<base::ByteReader> require(RecordType type);  // corrupt when absent
  Status all_understood() const;                      // unsupported: an unknown mandatory one

 private:
  struct Record {
    RecordType type = 0;
    bool taken = false;
    std::span<const std::byte> bytes;
  };
  Status add(RecordType type, std::span<const std::byte> bytes);

  std::array<Record, kRecordsMax> records_;
  std::size_t count_ = 0;
};

}  // namespace libft::wire
