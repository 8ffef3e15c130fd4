// SPDX-License-Identifier: LGPL-2.1-or-later
// How operations are executed: by jumping from one to the next, one handler for each operation and
// length. What memory.cc must know of it to keep decoded pages true.
#pragma once

namespace libft::machine {

const void* undecoded_handler();  // Decodes its slot, then executes it.
const void* next_page_handler();  // Behind the last slot.

}  // namespace libft::machine
