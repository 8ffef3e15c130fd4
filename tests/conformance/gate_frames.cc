// SPDX-License-Identifier: LGPL-2.1-or-later
#include "conformance/gate_suite.h"
#include "support/frames_world.h"

namespace libft::conformance {
namespace {

using support::FramesWorld;
FT_GATE_SUITE(FramesWorld);

}  // namespace
}  // namespace libft::conformance
