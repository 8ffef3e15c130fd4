// SPDX-License-Identifier: LGPL-2.1-or-later
// The same program, in the other language.
#include "every_function.c"
