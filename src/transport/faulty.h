// SPDX-License-Identifier: LGPL-2.1-or-later
// A Transport that damages another's outgoing bytes, from a seed: for tests of what stands above.
// Threads: as the port says.
#pragma once

#include <cstdint>
#include <memory>

#include "libft/transport.h"

namespace libft::transport {

// Each field counts bytes sent; 0 means never. Distances vary by chance between 1 and twice the
// value, so that no structure of the stream escapes them.
struct Faults {
  std::uint64_t seed = 1;
  std::uint64_t flip_every_bytes = 0;  // One bit of one byte is inverted.
  std::uint64_t drop_every_bytes = 0;  // One byte is left out; the rest follows.
  std::uint64_t cut_after_bytes = 0;   // Exactly so many bytes pass, then the connection closes.
};

std::unique_ptr<Transport> faulty(std::unique_ptr<Transport> inner, const Faults& faults);

}  // namespace libft::transport
