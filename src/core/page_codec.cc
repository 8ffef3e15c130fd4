// SPDX-License-Identifier: LGPL-2.1-or-later
#include "core/page_codec.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/checksum.h"

namespace libft::core {
namespace {

constexpr std::size_t kWord = 8;
constexpr std::size_t kLine = 64;  // Compared at once: a page mostly differs in few lines.
constexpr std::size_t kOperationMax = 255;

std::uint64_t word(const std::byte* at) { return base::load_le<std::uint64_t>(at); }

// Plain loops over a constant number of words: the compiler makes vector code of them.
bool line_equal(const std::byte* a, const std::byte* b) {
  std::uint64_t different = 0;
  for (std::size_t i = 0; i < kLine; i += kWord) different |= word(a + i) ^ word(b + i);
  return different == 0;
}

std::size_t skip_equal(const std::byte* a, const std::byte* b, std::size_t at, std::size_t end) {
  while (at < end) {
    if (at % kLine == 0)
      while (at + kLine <= end && line_equal(a + at, b + at)) at += kLine;
    if (at >= end || word(a + at) != word(b + at)) break;
    at += kWord;
  }
  return at;
}

std::size_t skip_different(const std::byte* a, const std::byte* b, std::size_t at,
                           std::size_t end) {
  while (at < end && word(a + at) != word(b + at)) at += kWord;
  return at;
}

// Writes operations; `full()` once one did not fit.
class Operations {
 public:
  Operations(std::span<std::byte> out, std::size_t bytes_max)
      : to_(out.data()), max_(std::min(out.size(), bytes_max)) {}

  void skip(std::size_t words) {
    for (; words > kOperationMax; words -= kOperationMax) put(kOperationMax, 0);
    skip_ = words;
  }
  void change(const std::byte* a, const std::byte* b, std::size_t words) {
    while (words > 0 && !full_) {
      const std::size_t now = std::min(words, kOperationMax);
      std::byte* to = put(skip_, now);
      skip_ = 0;
      if (to == nullptr) return;
      for (std::size_t i = 0; i < now * kWord; i += kWord)
        base::store_le(to + i, word(a + i) ^ word(b + i));
      a += now * kWord;
      b += now * kWord;
      words -= now;
    }
  }
  bool full() const { return full_; }
  std::size_t used() const { return used_; }

 private:
  std::byte* put(std::size_t skip, std::size_t count) {
    if (full_ || max_ - used_ < 2 + count * kWord) {
      full_ = true;
      return nullptr;
    }
    std::byte* at = to_ + used_;
    at[0] = std::byte(skip);
    at[1] = std::byte(count);
    used_ += 2 + count * kWord;
    return at + 2;
  }

  std::byte* to_;
  std::size_t max_, used_ = 0, skip_ = 0;
  bool full_ = false;
};

}  // namespace

bool is_zero(std::span<const std::byte> bytes) {
  std::size_t at = 0;
  for (; at + kLine <= bytes.size(); at += kLine) {
    std::uint64_t any = 0;
    for (std::size_t i = 0; i < kLine; i += kWord) any |= word(bytes.data() + at + i);
    if (any != 0) return false;
  }
  return std::all_of(bytes.begin() + std::ptrdiff_t(at), bytes.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

std::uint32_t page_checksum(std::span<const std::byte> page) {
  return std::uint32_t(base::checksum(page));
}

std::optional<std::size_t> encode_delta(std::span<const std::byte> page,
                                        std::span<const std::byte> reference,
                                        std::span<std::byte> out, std::size_t bytes_max) {
  FT_ASSERT(page.size() % kWord == 0 && reference.size() == page.size());
  const std::byte* const a = page.data();
  const std::byte* const b = reference.data();
  const std::size_t end = page.size();
  Operations operations(out, bytes_max);
  for (std::size_t at = 0;;) {
    const std::size_t from = skip_equal(a, b, at, end);
    if (from == end) return operations.used();
    operations.skip((from - at) / kWord);
    at = skip_different(a, b, from, end);
    operations.change(a + from, b + from, (at - from) / kWord);
    if (operations.full()) return std::nullopt;
  }
}

CodedPage encode_page(std::span<const std::byte> page, std::span<const std::byte> reference,
                      std::span<std::byte> out) {
  FT_ASSERT(page.size() % kWord == 0 && out.size() >= page.size());
  if (is_zero(page)) return {Coding::zero, 0};
  if (!reference.empty()) {
    // Beyond three quarters the bytes that are saved do not pay for the decoding.
    const auto bytes = encode_delta(page, reference, out, page.size() / 4 * 3);
    if (bytes && *bytes == 0) return {Coding::unchanged, 0};
    if (bytes) return {Coding::delta, *bytes};
  }
  std::memcpy(out.data(), page.data(), page.size());
  return {Coding::raw, page.size()};
}

Status apply_delta(std::span<const std::byte> coded, std::span<std::byte> page) {
  const std::size_t words = page.size() / kWord;
  std::size_t at = 0;
  base::ByteReader reader(coded);
  while (reader.left() > 0) {
    at += reader.read<std::uint8_t>();
    const std::size_t count = reader.read<std::uint8_t>();
    const auto changes = reader.bytes(count * kWord);
    if (reader.failed() || at + count > words)
      return Status(Code::corrupt, "delta operations reach beyond the page");
    std::byte* to = page.data() + at * kWord;
    for (std::size_t i = 0; i < changes.size(); i += kWord)
      base::store_le(to + i, word(to + i) ^ word(changes.data() + i));
    at += count;
  }
  return {};
}

Status decode_page(Coding coding, std::span<const std::byte> coded, std::span<const std::byte> base,
                   std::span<std::byte> page) {
  FT_ASSERT(base.size() == page.size() && page.size() % kWord == 0);
  const bool with_bytes = coding == Coding::delta || coding == Coding::raw;
  if (with_bytes == coded.empty())
    return Status(Code::corrupt, "a page coding with the wrong number of bytes");
  switch (coding) {
    case Coding::zero: std::memset(page.data(), 0, page.size()); return {};
    case Coding::unchanged: std::memcpy(page.data(), base.data(), page.size()); return {};
    case Coding::raw:
      if (coded.size() != page.size())
        return Status(Code::corrupt, "a raw page that is not one page long");
      std::memcpy(page.data(), coded.data(), page.size());
      return {};
    case Coding::delta:
      if (coded.size() >= page.size())
        return Status(Code::corrupt, "a delta that is not shorter than its page");
      std::memcpy(page.data(), base.data(), page.size());
      return apply_delta(coded, page);
  }
  return Status(Code::corrupt, "unknown page coding");
}

}  // namespace libft::core
