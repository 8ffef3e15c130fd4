// SPDX-License-Identifier: LGPL-2.1-or-later
// What a CPU policy says in CPUID's terms, and the line of xl.cfg that makes one host's guest fit
// another's processor. Pure; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "guest/xen/calls.h"

namespace libft::xen {

enum Register { eax, ebx, ecx, edx };

struct CpuidLeaf {
  std::uint32_t leaf = 0, subleaf = 0;
  std::array<std::uint32_t, 4> registers{};  // By Register.
};

std::vector<CpuidLeaf> leaves_of(const CpuPolicy& policy);

// The line with which xl builds a guest of `wanted` without the features that `most` does not have;
// empty when features are not what is in the way.
std::string cpuid_line(const CpuPolicy& wanted, const CpuPolicy& most);

}  // namespace libft::xen
