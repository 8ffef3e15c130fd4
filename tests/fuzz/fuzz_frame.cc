// SPDX-License-Identifier: LGPL-2.1-or-later
// Any bytes to the FrameReader, and every frame that it lets through to its decoder. The first byte
// says in which pieces the stream arrives, and whether the frames' checksums are made right first
// (or no mutation would ever come further than the checksum).
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/bytes.h"
#include "base/checksum.h"
#include "wire/copies.h"
#include "wire/frame.h"
#include "wire/log.h"
#include "wire/pages.h"

using namespace libft;
using namespace libft::wire;

namespace {

void repair_checksums(std::vector<std::byte>& stream) {
  std::span<std::byte> rest(stream);
  while (rest.size() >= kHeaderBytes) {
    const std::size_t size = kHeaderBytes + base::load_le<std::uint32_t>(rest.data() + 12);
    if (size > rest.size()) return;
    base::store_le<std::uint64_t>(rest.data() + 56, 0);
    base::store_le(rest.data() + 56, base::checksum(rest.first(size)));
    rest = rest.subspan(size);
  }
}

void decode_message(const Frame& frame) {
  const auto message = decode(frame);
  if (!message) return;
  // What was understood can be said again, and is understood in the same way.
  const auto name = GuestId::from_name("golden");
  auto bytes = encode(*message, *name, frame.header.id.generation);
  Frame again{frame.header, std::span<const std::byte>(bytes).subspan(kHeaderBytes)};
  const auto back = decode(again);
  if (!back || !(*back == *message)) std::abort();
}

// What was read can be written again, and is read in the same way.
void read_copies(const Frame& frame) {
  const auto copies = decode_copies(frame);
  if (!copies) return;
  CopiesWriter writer(frame.header.type, *GuestId::from_name("golden"));
  for (const FrameCopy& copy : *copies) writer.add(frame.header.id, copy);
  if (frame.payload.size() > kCopiesBytesMax) return;  // More than one frame now.
  const auto bytes = writer.take();
  const auto again =
      decode_copies({frame.header, std::span<const std::byte>(bytes).subspan(kHeaderBytes)});
  const auto same = [](const FrameCopy& one, const FrameCopy& other) {
    return one.nic == other.nic && std::ranges::equal(one.bytes, other.bytes);
  };
  if (!again || !std::ranges::equal(*again, *copies, same)) std::abort();
}

void decode_any(const Frame& frame) {
  read_copies(frame);
  decode_message(frame);
  if (auto pages = decode_pages(frame))
    while (!pages->entries.empty() && next_entry(pages->entries)) {
    }
  if (auto log = decode_log(frame))
    for (Position at; !log->coded.empty();) {
      const auto input = next_input(log->coded, at);
      if (!input) break;
      at = input->at;
    }
  (void)decode_epoch_begin(frame);
  (void)decode_state_chunk(frame);
  (void)decode_epoch_end(frame);
  (void)decode_probe_chunk(frame);
  (void)decode_input_copy(frame);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::uint8_t how = data[0] == 'L' ? 1 : data[0];  // A golden file begins with the magic.
  const std::size_t begin = data[0] == 'L' ? 0 : 1;
  const auto bytes = std::as_bytes(std::span(data + begin, size - begin));
  std::vector<std::byte> stream(bytes.begin(), bytes.end());
  if (how & 1) repair_checksums(stream);
  const std::size_t step = how & 2 ? 1 + how / 4 : stream.size() + 1;

  FrameReader reader;
  for (std::size_t at = 0; at < stream.size();) {
    const auto space = reader.space();
    const std::size_t now = std::min({step, space.size(), stream.size() - at});
    std::memcpy(space.data(), stream.data() + at, now);
    reader.stored(now);
    at += now;
    for (;;) {
      const auto frame = reader.next();
      if (!frame) return 0;
      if (!*frame) break;
      decode_any(**frame);
    }
  }
  return 0;
}
