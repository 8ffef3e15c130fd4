// SPDX-License-Identifier: LGPL-2.1-or-later
// The guests of `ftctl bench --machine`: tests/guests/machine/images, as they were when ftctl was
// built. Constants.
#pragma once

#include <cstddef>
#include <span>

namespace libft::ftctl {

std::span<const std::byte> bench_image();  // Computes, and ends.
std::span<const std::byte> kv_image();     // Answers the network.
std::span<const std::byte> share_image();  // Shares memory among harts.

}  // namespace libft::ftctl
