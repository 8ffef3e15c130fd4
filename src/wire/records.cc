// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire/records.h"

#include <fmt/format.h>

namespace libft::wire {

Result<Records> Records::parse(std::span<const std::byte> payload) {
  Records records;
  base::ByteReader reader(payload);
  while (reader.left() > 0) {
    const auto type = reader.read<std::uint16_t>();
    reader.read<std::uint16_t>();  // Reserved: written as zero, ignored.
    const auto length = reader.read<std::uint32_t>();
    const auto bytes = reader.bytes(length);
    if (reader.failed())
      return failure(Code::corrupt, fmt::format("record {:04x} reaches beyond its frame", type));
    FT_TRY(records.add(type, bytes));
  }
  return records;
}

Status Records::add(RecordType type, std::span<const std::byte> bytes) {
  if (count_ == kRecordsMax)
    return Status(Code::corrupt, fmt::format("more than {} records in a frame", kRecordsMax));
  for (std::size_t i = 0; i < count_; ++i)
    if (records_[i].type == type)
      return Status(Code::corrupt, fmt::format("record {:04x} twice in a frame", type));
  records_[count_++] = {type, false, bytes};
  return {};
}

std::optional<base::ByteReader> Records::take(RecordType type) {
  for (std::size_t i = 0; i < count_; ++i) {
    if (records_[i].type != type) continue;
    records_[i].taken = true;
    return base::ByteReader(records_[i].bytes);
  }
  return std::nullopt;
}

Result<base::ByteReader> Records::require(RecordType type) {
  if (auto reader = take(type)) return *reader;
  return failure(Code::corrupt, fmt::format("record {:04x} is missing", type));
}

Status Records::all_understood() const {
  for (std::size_t i = 0; i < count_; ++i)
    if (!records_[i].taken && (records_[i].type & kMandatory))
      return Status(Code::unsupported,
                    fmt::format("record {:04x} is mandatory and unknown here: the peer speaks a "
                                "newer format; use the same libft version on both hosts",
                                records_[i].type));
  return {};
}

}  // namespace libft::wire
