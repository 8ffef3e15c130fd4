// SPDX-License-Identifier: LGPL-2.1-or-later
// Epochs that travel as a log: what was not determined, and where (FORMAT.md, section 4, "A log").
// Pure: bytes in, values out; encode beside decode.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "libft/deterministic_guest.h"
#include "libft/types.h"
#include "wire/frame.h"

namespace libft::wire {

constexpr std::size_t kInputBytesMax = 65536;
constexpr std::size_t kLogBytesMax = 64u << 20;  // Of one epoch's coded inputs.

struct LoggedInput {
  Position at;
  GuestInput input;
  bool operator==(const LoggedInput&) const = default;
};

// Appends an input; `before` is the position of the one before it, or the log's begin.
void append_input(std::vector<std::byte>& to, Position before, Position at,
                  const GuestInput& input);
// Takes the next one off `rest`. REQUIRES: rest is not empty.
Result<LoggedInput> next_input(std::span<const std::byte>& rest, Position before);

// The end of an epoch's log: all that it says but the inputs.
struct LogMark {
  Position from, until;
  std::uint64_t inputs = 0, bytes = 0;
  std::optional<std::uint64_t> hash;  // Of the guest's whole state at `until`.
  std::uint64_t said = 0;             // Of what the guest sent between the two.
  bool guest_ended = false, guest_paused = false;
  EpochId released;  // The newest epoch whose output was let out.
  bool operator==(const LogMark&) const = default;
};

struct LogEpoch {
  EpochId id, base;
  LogMark mark;
  std::vector<std::byte> coded;  // The inputs.
  bool operator==(const LogEpoch&) const = default;
};

// Whole frames, back to back.
std::vector<std::byte> encode_log(const GuestId& guest, const LogEpoch& epoch);

struct LogFrame {
  EpochId base;
  std::uint64_t sequence = 0;
  std::span<const std::byte> coded;
  std::optional<LogMark> mark;  // It is the last of its epoch; then:
  std::uint64_t checksum = 0;
};
Result<LogFrame> decode_log(const Frame& frame);
std::uint64_t log_checksum(const LogEpoch& epoch);

}  // namespace libft::wire
