// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest of `ftctl bench --machine`: tests/guests/machine/images/bench.bin, as it was when ftctl
// was built. A constant.
#pragma once

#include <cstddef>
#include <span>

namespace libft::ftctl {

std::span<const std::byte> bench_image();

}  // namespace libft::ftctl
