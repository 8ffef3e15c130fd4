// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest and a gate of C++ as if they were ports in C: what `ftctl bench --through capi` measures,
// whose functions are called on the session's thread (FT_PORT_ANY_THREAD), and `--through
// capi-loop`, where they wait for another thread that polls and processes, as a host does by
// default. One thread.
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

std::unique_ptr<ThroughCapi> through_capi(Guest& guest, bool in_a_loop);

}  // namespace libft::ftctl
