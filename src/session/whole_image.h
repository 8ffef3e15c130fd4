// SPDX-License-Identifier: LGPL-2.1-or-later
// A WholeImage is all of a guest at the end of one epoch, on its way to another replica: it travels
// as an epoch that is the first of its stream (FORMAT.md, "An epoch"). Takes as much memory as the
// guest has. A value.
#pragma once

#include <vector>

#include "libft/executor.h"
#include "libft/guest.h"
#include "libft/types.h"
#include "strategy/checkpoint/epoch_encoder.h"

namespace libft::session {

struct WholeImage {
  EpochId id;
  std::vector<std::byte> pages;  // In ascending order.
  std::vector<std::byte> state;
};

// Room for a guest's memory, touched: take_image() then only copies.
WholeImage room_for_image(const GuestInfo& info);

// REQUIRES: the guest stands still, and `image` has room for it.
Status take_image(Guest& guest, EpochId id, WholeImage& image);

// `info` as of the guest that the image was taken of.
Status send_image(const WholeImage& image, const GuestId& guest, const GuestInfo& info,
                  Executor& executor, const checkpoint::FrameSink& sink);

}  // namespace libft::session
