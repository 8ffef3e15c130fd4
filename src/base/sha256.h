// SPDX-License-Identifier: LGPL-2.1-or-later
// SHA-256 (FIPS 180-4) and HMAC (RFC 2104) over it: the proof in heartbeats. Here, and not from a
// cryptographic library, so that whoever links libft need not link one; TLS has its own.
// Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace libft::base {

using Sha256 = std::array<std::uint8_t, 32>;

Sha256 sha256(std::span<const std::uint8_t> bytes);
Sha256 hmac_sha256(std::span<const std::uint8_t> key, std::span<const std::uint8_t> bytes);

// Takes the same time wherever they differ. REQUIRES: the same size.
bool equal_in_constant_time(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b);

}  // namespace libft::base
