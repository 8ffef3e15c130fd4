// SPDX-License-Identifier: LGPL-2.1-or-later
// What the bulk frames have in common (FORMAT.md, section 4): the records "base" and "sequence",
// and a frame that grows at the end of a vector. For pages.cc and log.cc.
#pragma once

#include <fmt/format.h>

#include <span>
#include <vector>

#include "libft/types.h"
#include "wire/frame.h"
#include "wire/records.h"

namespace libft::wire {

constexpr RecordType kBase = 0x8040, kSequence = 0x8041;

inline Status wrong(RecordType type, const char* what) {
  return Status(Code::corrupt, fmt::format("record {:04x}: {}", type, what));
}

template <class Writer>
void write_id(Writer& to, const EpochId& id) {
  to.template write<std::uint64_t>(id.generation.value);
  to.template write<std::uint64_t>(id.epoch.value);
}

inline EpochId read_id(base::ByteReader& from) {
  EpochId id;
  id.generation.value = from.read<std::uint64_t>();
  id.epoch.value = from.read<std::uint64_t>();
  return id;
}

template <class Writer>
void write_base(Writer& to, const EpochId& base) {
  write_record_header(to, kBase, 16);
  write_id(to, base);
}

inline Result<EpochId> read_base(Records& records) {
  FT_ASSIGN(auto reader, records.require(kBase));
  const EpochId base = read_id(reader);
  if (!reader.done()) return failure(wrong(kBase, "wrong length"));
  return base;
}

template <class Writer>
void write_sequence(Writer& to, std::uint64_t sequence) {
  write_record_header(to, kSequence, 8);
  to.template write<std::uint64_t>(sequence);
}

inline Result<std::uint64_t> read_sequence(Records& records) {
  FT_ASSIGN(auto reader, records.require(kSequence));
  const auto sequence = reader.read<std::uint64_t>();
  if (!reader.done()) return failure(wrong(kSequence, "wrong length"));
  return sequence;
}

// A frame that is appended to a vector: header space first, header last.
class FrameAppender {
 public:
  FrameAppender(std::vector<std::byte>& to, FrameType type, FrameHeader header)
      : to_(to), begin_(to.size()), header_(header) {
    header_.type = type;
    to_.resize(begin_ + kHeaderBytes);
  }
  ~FrameAppender() {
    const auto frame = std::span(to_).subspan(begin_);
    write_header(frame, header_, frame.subspan(kHeaderBytes));
  }

 private:
  std::vector<std::byte>& to_;
  std::size_t begin_;
  FrameHeader header_;
};

}  // namespace libft::wire
