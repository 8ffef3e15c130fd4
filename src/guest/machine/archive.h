// SPDX-License-Identifier: LGPL-2.1-or-later
// An Archive carries state into bytes or out of them, by the same list of fields: what is saved is
// what is loaded, in one order, so that equal states are equal bytes. Reading is safe on any bytes:
// check failed() at the end, and apply nothing before.
#pragma once

#include <concepts>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/bytes.h"

namespace libft::machine {

class Archive {
 public:
  explicit Archive(std::vector<std::byte>& to) : to_(&to) {}
  explicit Archive(std::span<const std::byte> from) : from_(from) {}

  bool failed() const { return from_ && (from_->failed() || wrong_); }
  bool done() const { return !from_ || (from_->done() && !wrong_); }

  template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>) void field(T& value) {
    if (from_) {
      value = from_->read<T>();
    } else {
      base::ByteAppender(*to_).write(value);
    }
  }
  void field(bool& value) {
    std::uint8_t byte = value ? 1 : 0;
    field(byte);
    wrong_ = wrong_ || byte > 1;
    value = byte == 1;
  }
  // An enumeration that has the values up to `last`.
  template <class Enum>
  requires std::is_enum_v<Enum>
  void field(Enum& value, Enum last) {
    auto byte = static_cast<std::uint8_t>(value);
    field(byte);
    wrong_ = wrong_ || byte > static_cast<std::uint8_t>(last);
    value = static_cast<Enum>(byte);
  }
  template <class T, std::size_t N>
  void field(std::array<T, N>& values) {
    for (T& value : values) field(value);
  }
  // A list of at most `count_max`.
  void field(std::vector<std::byte>& bytes, std::uint32_t count_max) {
    std::uint32_t count = size(bytes.size(), count_max);
    if (!from_) return base::ByteAppender(*to_).bytes(bytes);
    const auto read = from_->bytes(count);
    bytes.assign(read.begin(), read.end());
  }
  // The number of a list's elements, which follow.
  std::uint32_t size(std::size_t actual, std::uint32_t count_max) {
    auto count = static_cast<std::uint32_t>(actual);
    field(count);
    if (count <= count_max) return count;
    wrong_ = true;
    return 0;
  }

 private:
  std::vector<std::byte>* to_ = nullptr;
  std::optional<base::ByteReader> from_;
  bool wrong_ = false;
};

}  // namespace libft::machine
