// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's description as it travels, and back. The regions of a description that came over the
// wire have sizes, and no bytes behind them: they must not be read.
#pragma once

#include "libft/guest.h"
#include "wire/message.h"

namespace libft::session {

inline wire::GuestShape shape_of(const GuestInfo& info) {
  wire::GuestShape shape{info.driver,     info.description, info.compatibility,
                         info.page_bytes, info.vcpus,       {}};
  for (const auto& region : info.memory)
    shape.memory.push_back({region.name, region.first, region.bytes.size() / info.page_bytes});
  return shape;
}

inline GuestInfo info_of(const wire::GuestShape& shape) {
  GuestInfo info;
  info.driver = shape.driver;
  info.description = shape.description;
  info.compatibility = shape.compatibility;
  info.page_bytes = shape.page_bytes;
  info.vcpus = shape.vcpus;
  for (const auto& region : shape.memory)
    info.memory.push_back(
        {region.name, region.first,
         std::span<std::byte>(static_cast<std::byte*>(nullptr), region.pages * shape.page_bytes)});
  return info;
}

}  // namespace libft::session
