// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guest/xen/cpuid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/bytes.h"

namespace libft::xen {
namespace {

// Of xen_cpuid_leaf_t (public/arch-x86/xen.h): leaf, subleaf, a, b, c, d.
constexpr std::size_t kEntryBytes = 24;
constexpr std::uint32_t kNoSubleaf = 0xffffffff;

// The registers that consist of features, a bit each (public/arch-x86/cpufeatureset.h); all others
// hold numbers, of which a smaller one is not a part.
struct FeatureWord {
  std::uint32_t leaf, subleaf;
  Register where;
};
constexpr FeatureWord kFeatureWords[] = {{1, kNoSubleaf, ecx},
                                         {1, kNoSubleaf, edx},
                                         {7, 0, ebx},
                                         {7, 0, ecx},
                                         {7, 0, edx},
                                         {7, 1, eax},
                                         {7, 1, ebx},
                                         {7, 1, ecx},
                                         {7, 1, edx},
                                         {7, 2, edx},
                                         {0xd, 1, eax},
                                         {0x80000001, kNoSubleaf, ecx},
                                         {0x80000001, kNoSubleaf, edx},
                                         {0x80000007, kNoSubleaf, edx},
                                         {0x80000008, kNoSubleaf, ebx},
                                         {0x80000021, kNoSubleaf, eax},
                                         {0x80000021, kNoSubleaf, ecx}};

std::uint32_t word(const std::vector<CpuidLeaf>& leaves, const FeatureWord& of) {
  const auto found = std::find_if(leaves.begin(), leaves.end(), [&](const CpuidLeaf& one) {
    return one.leaf == of.leaf && one.subleaf == of.subleaf;
  });
  return found == leaves.end() ? 0 : found->registers[of.where];
}

// As xl.cfg(5) has it: the highest bit first; x: as it would be, 0: not there.
std::string mask(std::uint32_t without) {
  std::string text(32, 'x');
  for (unsigned bit = 0; bit < 32; ++bit)
    if ((without >> bit & 1) != 0) text[31 - bit] = '0';
  return text;
}

}  // namespace

std::vector<CpuidLeaf> leaves_of(const CpuPolicy& policy) {
  std::vector<CpuidLeaf> leaves;
  const auto bytes = std::as_bytes(std::span(policy.leaves));
  for (std::size_t at = 0; at + kEntryBytes <= bytes.size(); at += kEntryBytes) {
    const auto field = [&](std::size_t n) {
      return base::load_le<std::uint32_t>(bytes.data() + at + 4 * n);
    };
    leaves.push_back({field(0), field(1), {field(2), field(3), field(4), field(5)}});
  }
  return leaves;
}

std::string cpuid_line(const CpuPolicy& wanted, const CpuPolicy& most) {
  constexpr const char* kNames[] = {"eax", "ebx", "ecx", "edx"};
  const auto theirs = leaves_of(wanted), ours = leaves_of(most);
  std::vector<std::string> entries;
  for (const FeatureWord& feature : kFeatureWords) {
    const std::uint32_t without = word(theirs, feature) & ~word(ours, feature);
    if (without == 0) continue;
    const std::string subleaf =
        feature.subleaf == kNoSubleaf ? std::string() : fmt::format(",{:#x}", feature.subleaf);
    entries.push_back(fmt::format("\"{:#x}{}:{}={}\"", feature.leaf, subleaf, kNames[feature.where],
                                  mask(without)));
  }
  return entries.empty() ? std::string() : fmt::format("cpuid = [ {} ]", fmt::join(entries, ", "));
}

}  // namespace libft::xen
