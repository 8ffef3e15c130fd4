// SPDX-License-Identifier: LGPL-2.1-or-later
// MmapArena is the StagingArena of production: anonymous mappings, in huge pages where the host
// offers them. Memory that is not ready costs address space only, until it is touched.
#pragma once

#include <vector>

#include "libft/staging_arena.h"

namespace libft::os {

class MmapArena final : public StagingArena {
 public:
  MmapArena() = default;
  MmapArena(const MmapArena&) = delete;
  MmapArena& operator=(const MmapArena&) = delete;
  ~MmapArena() override;  // Gives back what is still reserved.

  Result<std::span<std::byte>> reserve(std::size_t bytes, std::size_t ready_bytes) override;
  void give_back(std::span<std::byte> reserved) override;

 private:
  std::vector<std::span<std::byte>> reserved_;
};

}  // namespace libft::os
