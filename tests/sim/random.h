// SPDX-License-Identifier: LGPL-2.1-or-later
// Random numbers of the simulation: xoshiro256** (Blackman and Vigna, public domain), seeded by
// splitmix64. Each part of the world draws from a stream of its own, so that a change in one part
// does not shuffle what happens in the others.
#pragma once

#include <bit>
#include <cstdint>

#include "libft/types.h"

namespace libft::sim {

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream) {
    std::uint64_t x = seed * 0x9e3779b97f4a7c15ull + stream * 0xd1b54a32d192ed03ull + 1;
    for (auto& word : words_) word = splitmix(x);
  }

  std::uint64_t next() {
    const std::uint64_t result = std::rotl(words_[1] * 5, 7) * 9;
    const std::uint64_t t = words_[1] << 17;
    words_[2] ^= words_[0];
    words_[3] ^= words_[1];
    words_[1] ^= words_[2];
    words_[0] ^= words_[3];
    words_[2] ^= t;
    words_[3] = std::rotl(words_[3], 45);
    return result;
  }
  std::uint64_t below(std::uint64_t limit) { return limit == 0 ? 0 : next() % limit; }
  bool chance(unsigned permille) { return below(1000) < permille; }
  Nanos between(Nanos low, Nanos high) {
    if (high <= low) return low;
    return low + Nanos{static_cast<std::int64_t>(
                     below(static_cast<std::uint64_t>((high - low).count())))};
  }

 private:
  static std::uint64_t splitmix(std::uint64_t& x) {
    std::uint64_t z = (x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  std::uint64_t words_[4];
};

}  // namespace libft::sim
