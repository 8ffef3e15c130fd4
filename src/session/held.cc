// SPDX-License-Identifier: LGPL-2.1-or-later
// Layout: u32 magic, u32 format, u64 checksum of all that follows; u8 role, u8 guest_paused, u32
// size of a Hello frame and that frame (its guest id is checked), u32 size of the state and the
// state.
#include "session/held.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/checksum.h"
#include "libft/session.h"
#include "wire/frame.h"

namespace libft::session {
namespace {

constexpr std::uint32_t kMagic = 0x444c4548;  // "HELD"

static_assert(kHoldMax.count() == wire::kHoldMsMax);

Status damaged() {
  return Status(Code::corrupt,
                "what a held session left behind is damaged; remedy: begin without it, as after a "
                "session that died");
}

void append(base::ByteAppender& out, std::span<const std::byte> bytes) {
  out.write(static_cast<std::uint32_t>(bytes.size()));
  out.bytes(bytes);
}

Result<wire::FrameHeader> read_frame(std::span<const std::byte> bytes, const GuestId& guest,
                                     wire::Hello& hello) {
  wire::FrameReader reader(guest);
  while (!bytes.empty()) {
    const auto space = reader.space();
    const auto count = std::min(space.size(), bytes.size());
    std::copy_n(bytes.begin(), count, space.begin());
    reader.stored(count);
    bytes = bytes.subspan(count);
  }
  FT_ASSIGN(const auto frame, reader.next());
  if (!frame) return failure(damaged());
  FT_ASSIGN(auto message, wire::decode(*frame));
  auto* found = std::get_if<wire::Hello>(&message);
  if (found == nullptr) return failure(damaged());
  hello = std::move(*found);
  return frame->header;
}

}  // namespace

std::vector<std::byte> encode(const Held& held, const GuestId& guest) {
  wire::Hello hello;
  hello.guest = guest.name();
  hello.backup = held.backup;
  hello.newest_complete = held.newest;
  hello.image_of = held.primary;
  hello.shape = held.shape;
  std::vector<std::byte> body;
  base::ByteAppender out(body);
  out.write(static_cast<std::uint8_t>(held.role));
  out.write(static_cast<std::uint8_t>(held.guest_paused));
  append(out, wire::encode(hello, guest, held.generation));
  append(out, held.state);
  std::vector<std::byte> bytes;
  base::ByteAppender whole(bytes);
  whole.write(kMagic);
  whole.write(kHeldFormat);
  whole.write(base::checksum(body));
  whole.bytes(body);
  return bytes;
}

Result<Held> decode_held(std::span<const std::byte> bytes, const GuestId& guest) {
  base::ByteReader in(bytes);
  if (in.read<std::uint32_t>() != kMagic) return failure(damaged());
  const auto format = in.read<std::uint32_t>();
  if (format != kHeldFormat)
    return failure(Code::unsupported,
                   fmt::format("a held session was left behind in format {}, and this libft reads "
                               "format {}; remedy: begin without it, as after a session that died",
                               format, kHeldFormat));
  const auto checksum = in.read<std::uint64_t>();
  if (in.failed() || checksum != base::checksum(bytes.last(in.left()))) return failure(damaged());
  Held held;
  const auto role = in.read<std::uint8_t>();
  const auto paused = in.read<std::uint8_t>();
  const auto frame = in.bytes(in.read<std::uint32_t>());
  const auto state = in.bytes(in.read<std::uint32_t>());
  if (!in.done() || role < 1 || role > 2 || paused > 1) return failure(damaged());
  wire::Hello hello;
  FT_ASSIGN(const wire::FrameHeader header, read_frame(frame, guest, hello));
  held.role = static_cast<Held::Role>(role);
  held.guest_paused = paused == 1;
  held.generation = header.id.generation;
  held.backup = std::move(hello.backup);
  held.primary = std::move(hello.image_of);
  held.newest = hello.newest_complete;
  held.shape = std::move(hello.shape);
  held.state.assign(state.begin(), state.end());
  return held;
}

}  // namespace libft::session
