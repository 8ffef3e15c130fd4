// SPDX-License-Identifier: LGPL-2.1-or-later
// DomainState is what of a stopped domain is not memory: the device state of one epoch. Its bytes
// are of libft's own format, below; the HVM context in them is of Xen's (public/hvm/save.h).
// Values; any thread. decode() takes any bytes whatever.
//
//   header   magic u32 "FTXN", version u16, records u16
//   record   type u16, flags u16 (bit 0: a reader that does not know the type may skip it),
//            length u32, then `length` bytes
//   1 shape    uuid 16 bytes, vcpus u32: whose state it is
//   2 context  Xen's HVM context, as it is
//   3 params   count x {index u32, value u64}
//   4 tsc      mode u32, khz u32, incarnation u32, nanoseconds u64
//   5 devices  the device model's, as QEMU writes it; only of a domain that has one
// All integers are little-endian. Each of the first four stands there exactly once, the fifth at
// most once, in any order.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "guest/xen/calls.h"

namespace libft::xen {

struct HvmParam {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
  auto operator<=>(const HvmParam&) const = default;
};

struct DomainState {
  Uuid uuid{};
  std::uint32_t vcpus = 0;
  std::vector<std::byte> context;
  std::vector<HvmParam> params;
  TscInfo tsc;
  std::vector<std::byte> devices;  // Empty: it has no device model.
  bool operator==(const DomainState&) const = default;
};

// Replaces `bytes`.
void encode(const DomainState& state, std::vector<std::byte>& bytes);
Result<DomainState> decode(std::span<const std::byte> bytes);

}  // namespace libft::xen
