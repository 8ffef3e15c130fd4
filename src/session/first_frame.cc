// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/first_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "wire/frame.h"

namespace libft::session {

Result<FirstFrame> read_hello(const GuestId& guest, std::span<const std::byte> received) {
  wire::FrameReader reader(guest);
  std::size_t fed = 0;
  while (fed < received.size()) {
    const auto space = reader.space();
    const auto bytes = std::min(space.size(), received.size() - fed);
    std::copy_n(received.begin() + static_cast<std::ptrdiff_t>(fed), bytes, space.begin());
    reader.stored(bytes);
    fed += bytes;
  }
  FT_ASSIGN(const auto frame, reader.next());
  if (!frame) return failure(Code::corrupt, "the first frame is not a Hello");
  FT_ASSIGN(auto message, wire::decode(*frame));
  auto* hello = std::get_if<wire::Hello>(&message);
  if (!hello) return failure(Code::corrupt, "the first frame is not a Hello");
  return FirstFrame{std::move(*hello), wire::kHeaderBytes + frame->header.payload_bytes};
}

Status suits(const wire::Hello& hello, const GuestInfo& info) {
  if (hello.version_max < wire::kVersionOldest || hello.version_min > wire::kVersion)
    return Status(
        Code::unsupported,
        fmt::format("this host speaks libft's protocol {} to {}, the backup {} to {}: "
                    "install the same release of libft on both",
                    wire::kVersionOldest, wire::kVersion, hello.version_min, hello.version_max));
  const std::uint64_t needed = info.pages() * info.page_bytes;
  if (hello.memory_bytes_free != 0 && hello.memory_bytes_free < needed)
    return Status(
        Code::exhausted,
        fmt::format("the guest has {} MiB of memory, and the backup host has {} MiB free: "
                    "free memory there, or use another host",
                    needed >> 20, hello.memory_bytes_free >> 20));
  return {};
}

}  // namespace libft::session
