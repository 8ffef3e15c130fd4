// SPDX-License-Identifier: LGPL-2.1-or-later
#include "fdt.h"

#include <bit>

#include "base/assert.h"
#include "base/bytes.h"

namespace libft::machine {

namespace {

constexpr std::uint32_t kMagic = 0xd00dfeed, kVersion = 17, kCompatibleVersion = 16;
constexpr std::uint32_t kBeginNode = 1, kEndNode = 2, kProperty = 3, kEnd = 9;
constexpr std::uint32_t kHeaderBytes = 40, kReservationsBytes = 16;

void append_big(std::vector<std::byte>& to, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(std::byte(value >> shift));
}

void append_text(std::vector<std::byte>& to, std::string_view text) {
  const auto bytes = base::bytes_of(text);
  to.insert(to.end(), bytes.begin(), bytes.end());
  to.push_back(std::byte{0});
}

}  // namespace

void FdtWriter::cell(std::uint32_t value) { append_big(structure_, value); }

void FdtWriter::pad() {
  while (structure_.size() % 4 != 0) structure_.push_back(std::byte{0});
}

void FdtWriter::begin(std::string_view node) {
  cell(kBeginNode);
  append_text(structure_, node);
  pad();
  ++depth_;
}

void FdtWriter::end() {
  cell(kEndNode);
  --depth_;
}

void FdtWriter::property(std::string_view name, std::span<const std::byte> value) {
  cell(kProperty);
  cell(static_cast<std::uint32_t>(value.size()));
  const std::string entry = std::string(name) + '\0';
  std::size_t at = strings_.find(entry);
  if (at == std::string::npos) {
    at = strings_.size();
    strings_ += entry;
  }
  cell(static_cast<std::uint32_t>(at));
  structure_.insert(structure_.end(), value.begin(), value.end());
  pad();
}

void FdtWriter::text(std::string_view name, std::string_view value) { texts(name, {value}); }

void FdtWriter::texts(std::string_view name, std::initializer_list<std::string_view> values) {
  std::vector<std::byte> bytes;
  for (const std::string_view value : values) append_text(bytes, value);
  property(name, bytes);
}

void FdtWriter::cells(std::string_view name, std::span<const std::uint32_t> values) {
  std::vector<std::byte> bytes;
  for (const std::uint32_t value : values) append_big(bytes, value);
  property(name, bytes);
}

std::vector<std::byte> FdtWriter::finish() {
  FT_ASSERT(depth_ == 0);
  cell(kEnd);
  const auto structure_bytes = static_cast<std::uint32_t>(structure_.size());
  const auto strings_bytes = static_cast<std::uint32_t>(strings_.size());
  const std::uint32_t structure_at = kHeaderBytes + kReservationsBytes;
  const std::uint32_t strings_at = structure_at + structure_bytes;
  std::vector<std::byte> blob;
  for (const std::uint32_t value :
       {kMagic, strings_at + strings_bytes, structure_at, strings_at, kHeaderBytes, kVersion,
        kCompatibleVersion, 0u, strings_bytes, structure_bytes}) {
    append_big(blob, value);
  }
  blob.resize(structure_at);  // No reserved memory: one empty entry.
  blob.insert(blob.end(), structure_.begin(), structure_.end());
  const auto names = base::bytes_of(strings_);
  blob.insert(blob.end(), names.begin(), names.end());
  return blob;
}

}  // namespace libft::machine
