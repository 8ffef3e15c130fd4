// SPDX-License-Identifier: LGPL-2.1-or-later
// Harts that share memory in three ways, one after the other: each writes to pages of its own; all
// read the same pages; all write to the same pages. A line says when each begins, "end" when all
// harts are through.
#include "runtime.h"

enum { HARTS_MAX = 8, WORDS = 8192, PLENTY = 4000000, FEW = 400000 };
static volatile u64 own[HARTS_MAX][WORDS] __attribute__((aligned(4096)));
static volatile u64 shared[WORDS] __attribute__((aligned(4096)));
static volatile u64 harts __attribute__((aligned(4096))) = 1;
static volatile u64 arrived __attribute__((aligned(4096)));

static void meet(u64 times) {
  __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
  while (arrived < times * harts) {
  }
}

static void announce(u64 hart, const char *text) {
  if (hart == 0) say(text);
}

static u64 read_all(void) {
  u64 sum = 0;
  for (u64 i = 0; i < PLENTY; ++i) sum += shared[i * 17 % WORDS];
  return sum;
}

void guest_main(u64 hart, const void *device_tree) {
  (void)device_tree;
  if (hart == 0) {
    for (u64 other = 1; other < HARTS_MAX && sbi(0x48534d, 2, other, 0, 0) == 0; ++other) ++harts;
    for (u64 other = 1; other < harts; ++other) start_hart(other);
  }
  meet(1);
  announce(hart, "disjoint\n");
  for (u64 i = 0; i < PLENTY; ++i) own[hart][i * 17 % WORDS] += i;
  meet(2);
  announce(hart, "end\nread-shared\n");
  own[hart][0] += read_all();
  meet(3);
  announce(hart, "end\nwrite-shared\n");
  for (u64 i = 0; i < FEW; ++i) shared[(i * 17 + hart) % WORDS] += i;
  meet(4);
  announce(hart, "end\n");
  if (hart == 0) power_off();
}
