// SPDX-License-Identifier: LGPL-2.1-or-later
// docs/guest-life.md, "Xen, with xl": what ends a protected guest, and what then becomes of it. No
// end promotes the backup, and xen-end-duty does what xl would have done.
#pragma once

#include <span>

#include "lab/xen/protection.h"

namespace libft::lab {

// At xl.cfg's defaults. What was saved or moved is xl's affair, no more xen-end-duty's.
enum class Afterwards { saved, elsewhere, gone, another };

struct End {
  const char *row, *order;
  int kind;  // Without an order: what its own software is told.
  const char* event;
  Afterwards afterwards;
};
// The last one needs no guest afterwards.
std::span<const End> all_ends();

// xen-end-duty must be on the host where the guest is.
Status install_duty(XenPair& pair, Side home);

// Ends the guest that is protected on `home`, and looks at everything until nothing more happens.
Status meet_end(XenPair& pair, Protection& libft, const End& end, Side home);

}  // namespace libft::lab
