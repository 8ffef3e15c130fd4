// SPDX-License-Identifier: LGPL-2.1-or-later
#include "session/whole_image.h"

#include <algorithm>

namespace libft::session {

WholeImage room_for_image(const GuestInfo& info) {
  WholeImage image;
  image.pages.resize(info.pages() * info.page_bytes);
  return image;
}

Status take_image(Guest& guest, EpochId id, WholeImage& image) {
  image.id = id;
  auto to = image.pages.begin();
  for (const MemoryRegion& region : guest.info().memory)
    to = std::ranges::copy(region.bytes, to).out;
  FT_TRY(guest.save_state());
  return guest.fetch_state(image.state);
}

Status send_image(const WholeImage& image, const GuestId& guest, const GuestInfo& info,
                  Executor& executor, const checkpoint::FrameSink& sink) {
  checkpoint::CapturedEpoch epoch;
  epoch.id = image.id;
  epoch.first = true;
  for (const MemoryRegion& region : info.memory)
    epoch.pages.add(region.first, region.bytes.size() / info.page_bytes);
  // The encoder reads it only.
  epoch.staging = {const_cast<std::byte*>(image.pages.data()), image.pages.size()};
  epoch.state = image.state;
  checkpoint::EpochEncoder encoder(
      guest, info, executor, {.delta = false, .delta_state = false, .reference_bytes_max = 0});
  const auto sent = encoder.encode(epoch, sink);
  return sent ? Status() : sent.error();
}

}  // namespace libft::session
