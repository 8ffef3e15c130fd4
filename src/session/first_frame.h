// SPDX-License-Identifier: LGPL-2.1-or-later
// The first frame of a connection that somebody was offered: a Hello, and how far it reaches. Pure.
#pragma once

#include <span>

#include "libft/guest.h"
#include "libft/types.h"
#include "wire/message.h"

namespace libft::session {

struct FirstFrame {
  wire::Hello hello;
  std::size_t bytes = 0;  // Of the frame.
};

// `received`: what was read from the connection so far.
Result<FirstFrame> read_hello(const GuestId& guest, std::span<const std::byte> received);

// What no state of the pair can make good.
Status suits(const wire::Hello& hello, const GuestInfo& info);

}  // namespace libft::session
