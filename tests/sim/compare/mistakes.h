// SPDX-License-Identifier: LGPL-2.1-or-later
// What the mutants that touch frames make of them. Without one, they make nothing.
#pragma once

#include "sim/compare/model_guest.h"
#include "sim/compare/mutants.h"

namespace libft::sim {

// What the comparator is shown of a frame.
FrameBytes mistaken_primary(CompareMutant mutant, const Said& said);
FrameBytes mistaken_follower(CompareMutant mutant, const Said& said);

// What becomes of a frame that the rewriter has rewritten, and what it was before.
void mistake_to_world(CompareMutant mutant, const FrameBytes& before, FrameBytes& rewritten);
void mistake_to_guest(CompareMutant mutant, const FrameBytes& before, FrameBytes& rewritten);

}  // namespace libft::sim
