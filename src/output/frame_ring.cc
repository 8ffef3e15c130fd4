// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/frame_ring.h"

#include <fmt/format.h>

#include <cstring>
#include <new>

#include "base/assert.h"

namespace libft::output {
namespace {

struct Header {
  std::uint32_t length;
  std::uint32_t nic;
};
constexpr std::uint32_t kGoOnAtZero = ~std::uint32_t{0};
constexpr std::size_t kAlign = alignof(std::uint64_t);
static_assert(sizeof(Header) == kAlign, "an aligned rest always has room for the wrap mark");

constexpr std::size_t record_bytes(std::size_t frame_bytes) {
  return sizeof(Header) + (frame_bytes + kAlign - 1) / kAlign * kAlign;
}
constexpr std::size_t kRecordBytesMax = record_bytes(kFrameBytesMax);

}  // namespace

Result<FrameRing> FrameRing::create(std::size_t capacity_bytes) {
  const std::size_t capacity = (capacity_bytes + kAlign - 1) / kAlign * kAlign;
  std::unique_ptr<std::byte[]> memory(new (std::nothrow) std::byte[capacity]);
  if (!memory) {
    return failure(
        Code::exhausted,
        fmt::format("reserve {} bytes for held frames: no memory; lower the limit", capacity));
  }
  return FrameRing(std::move(memory), capacity);
}

// Where a record of `bytes` may go, or null. One record's worth is never used up entirely: head ==
// tail then always means "empty".
std::byte* FrameRing::place(std::size_t bytes) {
  if (tail_ >= head_) {
    if (capacity_ - tail_ >= bytes + (head_ == 0 ? 1 : 0)) return memory_.get() + tail_;
    if (head_ <= bytes) return nullptr;
    if (tail_ < capacity_) {
      const Header mark{kGoOnAtZero, 0};
      std::memcpy(memory_.get() + tail_, &mark, sizeof mark);
    }
    tail_ = 0;
  }
  return head_ - tail_ > bytes ? memory_.get() + tail_ : nullptr;
}

std::optional<FrameRing::Place> FrameRing::push(const Frame& frame) {
  FT_ASSERT(frame.bytes.size() <= kFrameBytesMax);
  const std::size_t bytes = record_bytes(frame.bytes.size());
  std::byte* at = place(bytes);
  if (at == nullptr) return std::nullopt;
  const Header header{static_cast<std::uint32_t>(frame.bytes.size()), frame.nic};
  std::memcpy(at, &header, sizeof header);
  if (!frame.bytes.empty()) {
    std::memcpy(at + sizeof header, frame.bytes.data(), frame.bytes.size());
  }
  tail_ += bytes;
  if (tail_ == capacity_) tail_ = 0;
  ++frames_;
  payload_bytes_ += frame.bytes.size();
  return Place{static_cast<std::size_t>(at - memory_.get())};
}

std::size_t FrameRing::front_offset() const {
  FT_ASSERT(frames_ > 0);
  Header header;
  std::memcpy(&header, memory_.get() + head_, sizeof header);
  return header.length == kGoOnAtZero ? 0 : head_;
}

Frame FrameRing::front() const { return at(Place{front_offset()}); }

Frame FrameRing::at(Place place) const {
  const std::byte* const record = memory_.get() + place.offset;
  Header header;
  std::memcpy(&header, record, sizeof header);
  return {header.nic, {record + sizeof header, header.length}};
}

void FrameRing::pop() {
  const std::size_t length = front().bytes.size();
  head_ = front_offset() + record_bytes(length);
  if (head_ == capacity_) head_ = 0;
  payload_bytes_ -= length;
  // An empty ring starts over at 0, so that a quiet guest keeps to a few pages that stay cached.
  if (--frames_ == 0) head_ = tail_ = 0;
}

void FrameRing::clear() { head_ = tail_ = frames_ = payload_bytes_ = 0; }

std::size_t FrameRing::room() const {
  // Free bytes are one stretch or two; in each, one record may be lost to the end of the stretch.
  const std::size_t first = tail_ >= head_ ? capacity_ - tail_ : head_ - tail_;
  const std::size_t second = tail_ >= head_ ? head_ : 0;
  const auto fit = [](std::size_t bytes) { return bytes > 0 ? (bytes - 1) / kRecordBytesMax : 0; };
  return fit(first) + fit(second);
}

}  // namespace libft::output
