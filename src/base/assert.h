// SPDX-License-Identifier: LGPL-2.1-or-later
// FT_ASSERT states what a correct program keeps true; it stays on in release builds, because a
// program that is wrong about a guest's memory must stop before it writes it. Never used on bytes
// that a peer sent, nor on what the system answered: those are a Status.
#pragma once

#include <cstdlib>

#define FT_ASSERT(condition)        \
  do {                              \
    if (!(condition)) std::abort(); \
  } while (false)
