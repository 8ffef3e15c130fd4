// SPDX-License-Identifier: LGPL-2.1-or-later
// Little-endian integers in bytes: one reader and one writer for everything that travels or is
// stored. The reader is safe on any bytes: past the end it answers zero and remembers, so that a
// decoder checks once, at the end. Values and views; no locks.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/assert.h"

namespace libft::base {

static_assert(std::endian::native == std::endian::little,
              "load_le and store_le copy; a big-endian host needs byteswaps here, and only here");

template <std::unsigned_integral T>
T load_le(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <std::unsigned_integral T>
void store_le(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Reads front to back. After the first read that did not fit, failed() stays true and every further
// read answers zero or an empty span.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <std::unsigned_integral T>
  T read() {
    const auto raw = bytes(sizeof(T));
    return raw.empty() ? T{0} : load_le<T>(raw.data());
  }

  std::span<const std::byte> bytes(std::size_t count) {
    if (failed_ || count > rest_.size()) {
      failed_ = true;
      return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

  std::size_t left() const { return failed_ ? 0 : rest_.size(); }
  bool failed() const { return failed_; }
  bool done() const { return !failed_ && rest_.empty(); }  // Everything was read, and nothing more.

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

// Writes into memory that the caller measured beforehand. REQUIRES: what is written fits.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> to) : to_(to) {}

  template <std::unsigned_integral T>
  void write(T value) {
    store_le(grow(sizeof value).data(), value);
  }
  void bytes(std::span<const std::byte> from) {
    if (!from.empty()) std::memcpy(grow(from.size()).data(), from.data(), from.size());
  }
  // The next `count` bytes, to be filled by the caller.
  std::span<std::byte> grow(std::size_t count) {
    FT_ASSERT(count <= to_.size() - used_);
    used_ += count;
    return to_.subspan(used_ - count, count);
  }
  std::span<std::byte> free() const { return to_.subspan(used_); }
  std::size_t used() const { return used_; }

 private:
  std::span<std::byte> to_;
  std::size_t used_ = 0;
};

// Appends to a vector.
class ByteAppender {
 public:
  explicit ByteAppender(std::vector<std::byte>& to) : to_(to) {}

  template <std::unsigned_integral T>
  void write(T value) {
    to_.resize(to_.size() + sizeof value);
    store_le(to_.data() + to_.size() - sizeof value, value);
  }
  void bytes(std::span<const std::byte> from) { to_.insert(to_.end(), from.begin(), from.end()); }
  std::size_t used() const { return to_.size(); }

 private:
  std::vector<std::byte>& to_;
};

}  // namespace libft::base
