// SPDX-License-Identifier: LGPL-2.1-or-later
// The page codec: how one page (or a device state) becomes few bytes against what the peer already
// holds, and back (src/wire/FORMAT.md, "Page entry" and "Delta operations").
// Pure functions, used by the encoder's workers and by the assembler; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "libft/status.h"
#include "wire/pages.h"

namespace libft::core {

using wire::Coding;

struct CodedPage {
  Coding coding = Coding::raw;
  std::size_t bytes = 0;  // Written to `out`.
};

bool is_zero(std::span<const std::byte> bytes);

// Low 32 bits of the XXH3-64: what a page entry carries.
std::uint32_t page_checksum(std::span<const std::byte> page);

// Codes `page` into `out` in the cheapest way. `reference` is the page as the peer holds it, or
// empty when that is not known: then the answer is zero or raw. REQUIRES: page a multiple of 8
// bytes; reference empty or as long; out at least as long as page.
CodedPage encode_page(std::span<const std::byte> page, std::span<const std::byte> reference,
                      std::span<std::byte> out);

// The delta alone; nothing when it would take more than `bytes_max` bytes. No operations at all
// mean that the two are equal. Same REQUIRES, and out at least bytes_max.
std::optional<std::size_t> encode_delta(std::span<const std::byte> page,
                                        std::span<const std::byte> reference,
                                        std::span<std::byte> out, std::size_t bytes_max);

// Makes `page` from what travelled. `base` is the page as it is here. Any bytes are survived:
// corrupt when they are no coding of a page of this size; then `page` is unspecified.
// REQUIRES: page a multiple of 8 bytes; base as long, and not overlapping.
Status decode_page(Coding coding, std::span<const std::byte> coded, std::span<const std::byte> base,
                   std::span<std::byte> page);

// Applies delta operations to `page`, which holds the base. corrupt as above.
Status apply_delta(std::span<const std::byte> coded, std::span<std::byte> page);

}  // namespace libft::core
