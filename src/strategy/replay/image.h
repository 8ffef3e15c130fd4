// SPDX-License-Identifier: LGPL-2.1-or-later
// An Image is all of a guest at one position, as bytes: to compare with, and to begin from again.
// A value; takes as much memory as the guest has.
#pragma once

#include <vector>

#include "libft/guest.h"

namespace libft::replay {

struct Image {
  std::vector<std::vector<std::byte>> regions;  // As GuestInfo::memory has them.
  std::vector<std::byte> state;
  bool operator==(const Image&) const = default;
};

// REQUIRES, of all: the guest stands still.
Status take_image(Guest& guest, Image& image);
// The same, of an image that is this guest's but for the pages `written` since.
Status renew_image(Guest& guest, const PageSet& written, Image& image);
// REQUIRES: the guest is a copy that was not activated.
Status load_image(const Image& image, Guest& guest);

// A byte of memory that two executions have differently.
struct OddByte {
  std::size_t region = 0, offset = 0;
  std::byte right{}, wrong{};
  bool operator==(const OddByte&) const = default;
};

// Counts all, and names the first `named_max`.
std::uint64_t compare_memory(const Image& right, const Image& wrong, std::size_t named_max,
                             std::vector<OddByte>& named);

}  // namespace libft::replay
