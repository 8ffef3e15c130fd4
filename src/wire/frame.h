// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames: what travels. A fixed header (magic, version, type, flags, guest, generation, epoch,
// length, checksum over header and payload), then typed records. FORMAT.md fixes every byte.
// Pure: bytes in, values out.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "libft/status.h"
#include "libft/types.h"
#include "wire/message.h"

namespace libft::wire {

constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kPayloadBytesMax = 4u << 20;  // A longer frame is corrupt by definition.
constexpr std::uint32_t kFlagSkippable = 1;  // Who does not know the frame's type ignores it.

enum class FrameType : std::uint16_t {
  hello = 1, welcome, refuse, sync_round, probe_answer, ack, joined, switch_over, ended, bye, verify,
  followed, change, vote, image_wanted, hold,
  // Bulk, see pages.h:
  sync_pages = 32,  // First synchronisation: pages to be written at once, not part of an epoch.
  probe_state,      // A device state to be loaded on probation.
  epoch_begin, epoch_pages, epoch_state, epoch_end,
  input_copy,       // One frame that came in for the guest, optional.
  epoch_log,        // What was not determined in an epoch: see log.h.
  frames_in,        // Copies of what came in for the guest, to its follower: see copies.h.
  frames_out,       // Copies of what the follower sent, to the primary.
};

struct FrameHeader {
  FrameType type{};
  std::uint16_t version = kVersion;
  std::uint32_t flags = 0;
  std::array<std::uint8_t, 16> guest{};
  EpochId id;                     // Generation always; epoch where the type has one.
  std::uint32_t payload_bytes = 0;
};

struct Frame {  // A view: valid until the reader that made it is fed again.
  FrameHeader header;
  std::span<const std::byte> payload;
};

// Writes the header for `payload`, checksum included, into the first kHeaderBytes of `at`.
void write_header(std::span<std::byte> at, const FrameHeader& header,
                  std::span<const std::byte> payload);

// A whole frame for a message. `generation` is the sender's current one.
std::vector<std::byte> encode(const Message& message, const GuestId& guest, Generation generation);

// The message in a frame. corrupt: wrong length, unknown mandatory record, value out of range.
// unsupported: a bulk frame.
Result<Message> decode(const Frame& frame);

bool is_bulk(FrameType type);

// Cuts a stream of bytes into frames. After the first corrupt byte it only answers corrupt: there is
// no resynchronisation inside a connection.
class FrameReader {
 public:
  explicit FrameReader(const GuestId& guest);  // Frames of another guest are refused.
  FrameReader();                               // Any guest: for a listener, before Hello.

  // Where to store received bytes (at least 1), and how many were stored.
  std::span<std::byte> space();
  void stored(std::size_t bytes);

  // The next whole frame; ok with nothing when more bytes are needed.
  Result<std::optional<Frame>> next();

 private:
  Result<std::optional<Frame>> cut();

  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::optional<std::array<std::uint8_t, 16>> guest_;
  bool broken_ = false;
};

}  // namespace libft::wire
