// SPDX-License-Identifier: LGPL-2.1-or-later
// A bank whose total never changes: money moves between accounts for ever, the books are added up now
// and then, and a state in which a checkpoint lost or invented a page shows as a wrong total.
#include "runtime.h"

enum { ACCOUNTS = 16384, OPENING = 1000, BETWEEN_AUDITS = 20000 };
static u64 balance[ACCOUNTS];

static u64 total(void) {
  u64 sum = 0;
  for (u32 i = 0; i < ACCOUNTS; ++i) sum += balance[i];
  return sum;
}

void guest_main(u64 hart, const void *device_tree) {
  (void)hart, (void)device_tree;
  u64 state = 88172645463325252ul;
  for (u32 i = 0; i < ACCOUNTS; ++i) balance[i] = OPENING;
  for (u64 audits = 1;; ++audits) {
    for (u32 i = 0; i < BETWEEN_AUDITS; ++i) {
      u64 random = next_random(&state);
      u64 *from = &balance[random % ACCOUNTS], *to = &balance[(random >> 20) % ACCOUNTS];
      u64 amount = random >> 40 & 127;
      if (*from < amount) amount = *from;
      *from -= amount;
      *to += amount;
    }
    u64 sum = total();
    say(sum == (u64)ACCOUNTS * OPENING ? "audit " : "WRONG ");
    say_hex(audits);
    put('\n');
    if (sum != (u64)ACCOUNTS * OPENING) power_off();
  }
}
