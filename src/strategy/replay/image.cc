// SPDX-License-Identifier: LGPL-2.1-or-later
#include "strategy/replay/image.h"

#include <algorithm>
#include <cstring>

namespace libft::replay {
namespace {

constexpr std::size_t kComparedAtOnce = 4096;

Status take_state(Guest& guest, Image& image) {
  FT_TRY(guest.save_state());
  return guest.fetch_state(image.state);
}

}  // namespace

Status take_image(Guest& guest, Image& image) {
  image.regions.clear();
  for (const MemoryRegion& region : guest.info().memory)
    image.regions.emplace_back(region.bytes.begin(), region.bytes.end());
  return take_state(guest, image);
}

Status renew_image(Guest& guest, const PageSet& written, Image& image) {
  const GuestInfo& info = guest.info();
  for (std::size_t i = 0; i < info.memory.size(); ++i) {
    const MemoryRegion& region = info.memory[i];
    const std::uint64_t first = region.first.value,
                        end = first + region.bytes.size() / info.page_bytes;
    for (const PageRun& run : written.runs()) {
      const std::uint64_t from = std::max(run.first.value, first);
      const std::uint64_t to = std::min(run.first.value + run.count, end);
      if (from >= to) continue;
      const std::size_t at = (from - first) * info.page_bytes;
      std::memcpy(image.regions[i].data() + at, region.bytes.data() + at,
                  (to - from) * info.page_bytes);
    }
  }
  return take_state(guest, image);
}

Status load_image(const Image& image, Guest& guest) {
  const auto& memory = guest.info().memory;
  if (memory.size() != image.regions.size())
    return Status(Code::internal, "the copy of a guest has other memory than the guest");
  for (std::size_t i = 0; i < memory.size(); ++i)
    std::ranges::copy(image.regions[i], memory[i].bytes.begin());
  return guest.load_state(image.state);
}

std::uint64_t compare_memory(const Image& right, const Image& wrong, std::size_t named_max,
                             std::vector<OddByte>& named) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < right.regions.size(); ++i) {
    const auto &one = right.regions[i], &other = wrong.regions[i];
    for (std::size_t from = 0; from < one.size(); from += kComparedAtOnce) {
      const std::size_t bytes = std::min(kComparedAtOnce, one.size() - from);
      if (std::memcmp(one.data() + from, other.data() + from, bytes) == 0) continue;
      for (std::size_t at = from; at < from + bytes; ++at) {
        if (one[at] == other[at]) continue;
        if (count++ < named_max) named.push_back({i, at, one[at], other[at]});
      }
    }
  }
  return count;
}

}  // namespace libft::replay
