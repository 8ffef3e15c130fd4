// SPDX-License-Identifier: LGPL-2.1-or-later
// A race on purpose: every hart adds to one counter without a lock and remembers each value that it
// saw. Which updates are lost, and so the digest, depends on every single interleaving.
#include "runtime.h"

enum { HARTS_MAX = 8, ROUNDS = 200000 };
static volatile u64 counter, finished, harts = 1;
static u64 digests[HARTS_MAX];

void guest_main(u64 hart, const void *device_tree) {
  (void)device_tree;
  if (hart == 0) {
    for (u64 other = 1; other < HARTS_MAX; ++other) {
      if (sbi(0x48534d, 2, other, 0, 0) != 0) break;
      ++harts;
    }
    for (u64 other = 1; other < harts; ++other) start_hart(other);
  }
  u64 digest = hart + 1;
  for (u32 i = 0; i < ROUNDS; ++i) {
    u64 seen = counter;
    digest = (digest ^ seen) * 0x100000001b3ul;
    counter = seen + 1;
  }
  digests[hart] = digest;
  __atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
  if (hart != 0) return;
  while (finished != harts) {
  }
  u64 all = counter;
  for (u64 i = 0; i < harts; ++i) all = (all ^ digests[i]) * 0x100000001b3ul;
  say("counter ");
  say_hex(counter);
  say(" digest ");
  say_hex(all);
  put('\n');
  power_off();
}
