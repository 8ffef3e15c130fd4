// SPDX-License-Identifier: LGPL-2.1-or-later
// The words of libft as types: epochs, generations, pages, who is who. Different things have
// different types, so that two bare integers never meet. Values: copy freely, any thread.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "libft/status.h"

namespace libft {

// A counting number that does not mix with others. `value` is public on purpose: it is a value.
template <class Tag>
struct Number {
  std::uint64_t value = 0;
  constexpr auto operator<=>(const Number&) const = default;
  constexpr Number next() const { return Number{value + 1}; }
};

using Generation = Number<struct GenerationTag>;  // The fencing token; 0 means "none yet".
using Epoch = Number<struct EpochTag>;            // Counts checkpoints of one guest; 0 means "none yet".
using PageNo = Number<struct PageTag>;            // Guest page, in units of GuestInfo::page_bytes.

// An epoch's full identity: the same number under another generation is another epoch.
struct EpochId {
  Generation generation;
  Epoch epoch;
  constexpr auto operator<=>(const EpochId&) const = default;
};

// A guest, by the name its owner gave it: 1 to 64 of [A-Za-z0-9._-].
class GuestId {
 public:
  GuestId() = default;
  static Result<GuestId> from_name(std::string_view name);
  const std::string& name() const { return name_; }
  // What frames carry: a 128-bit hash of the name.
  const std::array<std::uint8_t, 16>& bytes() const { return bytes_; }
  auto operator<=>(const GuestId&) const = default;

 private:
  std::string name_;
  std::array<std::uint8_t, 16> bytes_{};
};

// One life of a replica. Made when a replica begins to hold the guest's state; never used again
// after its process died or its state was given up.
struct Incarnation {
  std::string host;                   // For people; at most 64 characters, no '/'.
  std::array<std::uint8_t, 16> id{};  // Random; all zero means "nobody".
  auto operator<=>(const Incarnation&) const = default;
  bool nobody() const { return id == std::array<std::uint8_t, 16>{}; }
};

std::string to_string(const EpochId& id);                        // "3.41": generation 3, epoch 41
std::string to_string(const Incarnation& incarnation);           // "host/00112233445566778899aabbccddeeff"
Result<Incarnation> incarnation_from_string(std::string_view text);

using Nanos = std::chrono::nanoseconds;
using Millis = std::chrono::milliseconds;

// A moment on libft's clock (CLOCK_BOOTTIME in production, virtual in simulation).
struct Time {
  Nanos since_start{0};
  constexpr auto operator<=>(const Time&) const = default;
};
constexpr Time operator+(Time t, Nanos d) { return Time{t.since_start + d}; }
constexpr Time operator-(Time t, Nanos d) { return Time{t.since_start - d}; }
constexpr Nanos operator-(Time a, Time b) { return a.since_start - b.since_start; }

}  // namespace libft
