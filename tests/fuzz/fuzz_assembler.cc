// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames with any payload to an EpochAssembler whose image is complete, or not yet. Frame checksums
// are left aside and the page checksums are made right by the first byte's wish, so that the
// mutations reach the assembler's own checks. What must hold: nothing outside the guest and the
// arena is written (the sanitizers see that), and the image changes only by apply().
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "core/page_codec.h"
#include "fuzz/assembler_streams.h"
#include "wire/pages.h"

using namespace libft;
using namespace libft::test;

namespace {

// A stream that brings a backup to epoch 1.1, made once.
const Bytes& synchronisation() {
  static const Bytes bytes = fuzz_streams().first;
  return bytes;
}

// Sets the checksum of each page entry to what its page would decode to.
void repair_pages(Backup& backup, std::span<std::byte> payload) {
  wire::Frame frame;
  frame.payload = payload;
  const auto pages = wire::decode_pages(frame);
  if (!pages) return;
  Bytes page(512), base(512);
  for (auto entries = pages->entries; !entries.empty();) {
    const auto offset = std::size_t(entries.data() - payload.data());
    const auto entry = wire::next_entry(entries);
    if (!entry) return;
    for (std::uint64_t i = 0; i < backup.memory.pages(); ++i)
      if (backup.memory.number(i) == entry->page)
        std::memcpy(base.data(), backup.memory.page(i).data(), base.size());
    if (!core::decode_page(entry->coding, entry->coded, base, page).ok()) continue;
    base::store_le(payload.data() + offset + 12, core::page_checksum(page));
  }
}

std::vector<Bytes> memory_of(Backup& backup) {
  std::vector<Bytes> pages;
  for (std::uint64_t i = 0; i < backup.memory.pages(); ++i) {
    const auto page = backup.memory.page(i);
    pages.emplace_back(page.begin(), page.end());
  }
  return pages;
}

// The next frame of the input. Whatever is there becomes one: the header's checks are fuzz_frame's.
std::optional<wire::Frame> next_frame(std::span<const std::byte>& input, Bytes& payload) {
  if (input.size() < wire::kHeaderBytes) return std::nullopt;
  wire::Frame frame;
  frame.header.type = wire::FrameType(base::load_le<std::uint16_t>(input.data() + 6));
  frame.header.guest = kGuest.bytes();
  frame.header.id = id_of(base::load_le<std::uint64_t>(input.data() + 32),
                          base::load_le<std::uint64_t>(input.data() + 40));
  const std::size_t length = base::load_le<std::uint32_t>(input.data() + 12);
  input = input.subspan(wire::kHeaderBytes);
  const auto bytes = input.first(std::min(length, input.size()));
  payload.assign(bytes.begin(), bytes.end());
  input = input.subspan(bytes.size());
  return frame;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  const auto how = std::uint8_t(input[0]);  // A stream of frames begins with 'L': bit 0 is clear.
  if (data[0] != 'L') input = input.subspan(1);
  Backup backup(kGuest, 4, 3, 512);
  const bool synchronised = how & 1;
  if (synchronised && !backup.feed(synchronisation()).ok()) std::abort();
  Bytes payload;
  while (auto frame = next_frame(input, payload)) {
    if (how & 2) repair_pages(backup, payload);
    frame->payload = payload;
    const auto before = memory_of(backup);
    const auto complete = backup.assembler.on_frame(*frame);
    if (synchronised && memory_of(backup) != before) std::abort();
    if (!complete) break;
    if (*complete) backup.assembler.apply();
    (void)backup.assembler.take_probe_state();
  }
  backup.assembler.drop_partial();
  if (backup.assembler.partial()) std::abort();
  if (synchronised && !backup.feed({}).ok()) std::abort();
  return 0;
}
