// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest and a gate of C++ as if they were ports in C: what `ftctl bench --through capi` measures.
// The functions are called on the session's thread (FT_PORT_ANY_THREAD). One thread.
#pragma once

#include <memory>

#include "libft/guest.h"
#include "libft/output_gate.h"

namespace libft::ftctl {

class ThroughCapi {
 public:
  virtual ~ThroughCapi() = default;
  virtual Guest& guest() = 0;
  virtual OutputGate& gate(OutputGate& inner) = 0;  // Borrowed, as the guest is.
};

std::unique_ptr<ThroughCapi> through_capi(Guest& guest);

}  // namespace libft::ftctl
