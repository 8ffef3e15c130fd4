// SPDX-License-Identifier: LGPL-2.1-or-later
// What the bare-metal guests share: SBI calls, text, a generator.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

void guest_main(u64 hart, const void *device_tree);
extern char start_other[];

static inline u64 sbi(u64 extension, u64 function, u64 a, u64 b, u64 c) {
  register u64 a0 __asm__("a0") = a;
  register u64 a1 __asm__("a1") = b;
  register u64 a2 __asm__("a2") = c;
  register u64 a6 __asm__("a6") = function;
  register u64 a7 __asm__("a7") = extension;
  __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
  return a0;
}

static inline void put(char c) { sbi(1, 0, (u8)c, 0, 0); }
static inline void say(const char *text) {
  while (*text) put(*text++);
}
static inline void say_hex(u64 value) {
  for (int shift = 60; shift >= 0; shift -= 4) put("0123456789abcdef"[value >> shift & 15]);
}
static inline void power_off(void) {
  sbi(0x53525354, 0, 0, 0, 0);
  for (;;) {
  }
}
static inline void start_hart(u64 hart) { sbi(0x48534d, 0, hart, (u64)start_other, 0); }

static inline u64 next_random(u64 *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}
