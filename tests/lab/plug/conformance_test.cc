// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plug_world.h"

namespace libft::conformance {
namespace {

using plug_lab::PlugWorld;
FT_GATE_SUITE_ONE_EPOCH(PlugWorld);

}  // namespace
}  // namespace libft::conformance
