// SPDX-License-Identifier: LGPL-2.1-or-later
// The checksum of a whole epoch (src/wire/FORMAT.md, "An epoch"): encoder and assembler both run it
// over what the epoch means, not over how it travels. One thread.
#pragma once

#include <array>
#include <span>

#include "base/bytes.h"
#include "base/checksum.h"
#include "wire/pages.h"

namespace libft::checkpoint {

class EpochChecksum {
 public:
  void begin(const EpochId& id, const wire::EpochBegin& plan) {
    running_.restart();
    add(std::array<std::uint64_t, 7>{id.generation.value, id.epoch.value,
                                     plan.base.generation.value, plan.base.epoch.value, plan.pages,
                                     plan.state_bytes, plan.flags()});
  }
  void page(PageNo page, std::uint32_t checksum) {
    add(std::array<std::uint64_t, 2>{page.value, checksum});
  }
  std::uint64_t end(std::span<const std::byte> state) {
    running_.add(state);
    return running_.value();
  }

 private:
  template <std::size_t N>
  void add(const std::array<std::uint64_t, N>& numbers) {
    std::array<std::byte, 8 * N> bytes;
    for (std::size_t i = 0; i < N; ++i) base::store_le(bytes.data() + 8 * i, numbers[i]);
    running_.add(bytes);
  }
  base::RunningChecksum running_;
};

}  // namespace libft::checkpoint
