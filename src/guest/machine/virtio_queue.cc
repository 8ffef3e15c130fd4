// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtio_queue.h"

#include <algorithm>
#include <cstring>

namespace libft::machine {

namespace {

constexpr std::uint16_t kNext = 1, kWrite = 2, kIndirect = 4;  // 2.7.5
constexpr std::uint16_t kNoInterrupt = 1;                      // 2.7.6

struct Descriptor {
  std::uint64_t address;
  std::uint32_t bytes;
  std::uint16_t flags, next;
};
static_assert(sizeof(Descriptor) == 16);

}  // namespace

std::uint32_t VirtioQueue::Chain::writable_bytes() const {
  std::uint32_t sum = 0;
  for (const Segment& segment : writable) sum += segment.bytes;
  return sum;
}

template <class T>
std::optional<T> VirtioQueue::read(const Memory& memory, std::uint64_t address) {
  if (broken_ || !memory.contains(address, sizeof(T))) {
    broken_ = true;
    return std::nullopt;
  }
  T value;
  std::memcpy(&value, memory.at(address), sizeof value);
  return value;
}

bool VirtioQueue::has_chain(const Memory& memory) {
  if (!ready) return false;
  const auto index = read<std::uint16_t>(memory, available + 2);
  return index && *index != taken_;
}

// Descriptors form no loop if there are no more of them than the queue has.
bool VirtioQueue::follow(const Memory& memory, std::uint16_t index, Chain& chain) {
  std::uint64_t bytes = 0;
  for (std::uint32_t seen = 0; seen < size; ++seen) {
    if (index >= size) return false;
    const auto descriptor = read<Descriptor>(memory, descriptors + 16 * index);
    if (!descriptor || (descriptor->flags & kIndirect) != 0) return false;
    bytes += descriptor->bytes;
    if (bytes > kChainBytesMax || !memory.contains(descriptor->address, descriptor->bytes))
      return false;
    auto& segments = (descriptor->flags & kWrite) != 0 ? chain.writable : chain.readable;
    segments.push_back({descriptor->address, descriptor->bytes});
    if ((descriptor->flags & kNext) == 0) return true;
    index = descriptor->next;
  }
  return false;
}

std::optional<VirtioQueue::Chain> VirtioQueue::take(const Memory& memory) {
  if (!has_chain(memory)) return std::nullopt;
  const auto head = read<std::uint16_t>(memory, available + 4 + 2 * (taken_ % size));
  Chain chain;
  if (!head || !follow(memory, *head, chain)) {
    broken_ = true;
    return std::nullopt;
  }
  chain.head = *head;
  ++taken_;
  return chain;
}

bool VirtioQueue::give_back(Memory& memory, const Chain& chain, std::uint32_t bytes) {
  const std::uint64_t element = used + 4 + 8 * (given_ % size);
  if (!memory.contains(element, 8) || !memory.contains(used, 4)) {
    broken_ = true;
    return true;
  }
  const std::array<std::uint32_t, 2> entry{chain.head, bytes};
  memory.write(element, std::as_bytes(std::span(entry)));
  ++given_;
  memory.write(used + 2, std::as_bytes(std::span(&given_, 1)));
  const auto flags = read<std::uint16_t>(memory, available);
  return !flags || (*flags & kNoInterrupt) == 0;
}

std::vector<std::byte> VirtioQueue::gather(const Memory& memory, const std::vector<Segment>& from) {
  std::vector<std::byte> bytes;
  for (const Segment& segment : from) {
    const std::byte* at = memory.at(segment.address);
    bytes.insert(bytes.end(), at, at + segment.bytes);
  }
  return bytes;
}

std::uint32_t VirtioQueue::scatter(Memory& memory, const std::vector<Segment>& to,
                                   std::span<const std::byte> bytes) {
  std::uint32_t written = 0;
  for (const Segment& segment : to) {
    const auto some = bytes.first(std::min<std::size_t>(segment.bytes, bytes.size()));
    if (some.empty()) continue;
    memory.write(segment.address, some);
    bytes = bytes.subspan(some.size());
    written += static_cast<std::uint32_t>(some.size());
  }
  return written;
}

void VirtioQueue::archive(Archive& a) {
  a.field(size), a.field(ready), a.field(descriptors), a.field(available), a.field(used);
  a.field(broken_), a.field(taken_), a.field(given_);
  if (size == 0 || size > kSizeMax) size = kSizeMax;
}

}  // namespace libft::machine
