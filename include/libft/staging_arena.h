// SPDX-License-Identifier: LGPL-2.1-or-later
// A StagingArena hands out the memory into which pages are copied while the guest is paused, and
// decoded before they are applied. It is reserved before the protection begins, so that a pause never
// waits for memory. Huge pages where the host offers them. Called from the session's thread.
#pragma once

#include <cstddef>
#include <span>

#include "libft/status.h"

namespace libft {

class StagingArena {
 public:
  virtual ~StagingArena() = default;

  // Reserves `bytes` of address space, of which the first `ready_bytes` are backed by memory now
  // and the rest when first touched. The span lives until given back or the arena is destroyed.
  virtual Result<std::span<std::byte>> reserve(std::size_t bytes, std::size_t ready_bytes) = 0;
  virtual void give_back(std::span<std::byte> reserved) = 0;
};

}  // namespace libft
