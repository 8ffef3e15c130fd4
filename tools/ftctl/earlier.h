// SPDX-License-Identifier: LGPL-2.1-or-later
// What a starting ftctl makes of what an earlier one left behind: the arbiter's record decides
// whether a guest that lived on is still the owner, is fenced, or whether this is a first
// protection. decide() is pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "libft/arbiter.h"
#include "state_file.h"

namespace libft::ftctl {

// A state file whose ftctl died.
struct Remains {
  GuestState state;
  bool guest_lives = false;
};

struct Decision {
  enum class Kind {
    first,     // No record: the first protection creates it.
    reattach,  // `attach` is still the owner: take it up again.
    new_life,  // The old life is over: start the guest and win its record from `from`.
    fenced,    // Another replica owns the guest.
    refuse,    // `why` tells.
  } kind = Kind::refuse;
  std::optional<GuestState> attach;
  Incarnation from;
  std::vector<GuestState> stop;     // Guests that live on and are not the owner.
  std::vector<GuestState> discard;  // Files of lives that are over.
  Status why;
};

// `anew`: the owner of the guest gives up what an earlier life of it has left elsewhere.
Decision decide(const std::string& guest, const std::vector<Remains>& remains,
                const ReadAnswer& record, bool anew);

}  // namespace libft::ftctl
