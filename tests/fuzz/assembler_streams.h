// SPDX-License-Identifier: LGPL-2.1-or-later
// The streams that the assembler's fuzzer starts from: what brings a small backup to epoch 1.1, and
// the epoch after it, and a rebase behind that. One thread.
#pragma once

#include <cstdlib>

#include "os/inline_executor.h"
#include "unit/strategy/world.h"

namespace libft::test {

inline const GuestId kGuest = *GuestId::from_name("golden");

struct FuzzStreams {
  Bytes first, second, rebase;
};

inline FuzzStreams fuzz_streams() {
  os::InlineExecutor executor;
  Memory memory(4, 3, 512);
  Random random(1);
  for (std::uint64_t i = 1; i < memory.pages(); ++i) fill_random(memory.page(i), random);
  checkpoint::EpochEncoder encoder(kGuest, memory.info(), executor, {});
  Wire first, second, rebase;
  if (!encoder.encode_sync(Generation{1}, PageNo{0}, memory.page(0), first.sink()).ok())
    std::abort();
  if (!encoder.encode_probe(Generation{1}, random_bytes(9, random), first.sink()).ok())
    std::abort();
  Captured one(memory, id_of(1, 1), {0, 1, 2, 3, 4, 5, 6}, random_bytes(30, random));
  one.epoch.first = true;
  if (!encoder.encode(one.epoch, first.sink())) std::abort();

  memory.page(1)[9] ^= std::byte{1};
  fill_random(memory.page(2), random);
  std::fill_n(memory.page(3).data(), 512, std::byte{0});
  Captured two(memory, id_of(1, 2), {1, 2, 3, 4}, one.epoch.state);
  two.epoch.state[3] ^= std::byte{1};
  if (!encoder.encode(two.epoch, second.sink())) std::abort();
  memory.page(4)[9] ^= std::byte{1};
  Captured three(memory, id_of(1, 9), {4}, two.epoch.state);
  three.epoch.rebase = true;
  if (!encoder.encode(three.epoch, rebase.sink())) std::abort();
  return {first.bytes, second.bytes, rebase.bytes};
}

}  // namespace libft::test
