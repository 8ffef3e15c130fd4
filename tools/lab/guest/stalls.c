/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "stalls.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

enum { kSleepNs = 1000000, kStallNs = 5000000, kCalibrationNs = 200000000, kRemembered = 8192 };

static _Atomic uint64_t stalls;             /* So many so far; the first is number 1. */
static _Atomic uint64_t length[kRemembered]; /* In nanoseconds. */

static uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_ns(long ns) {
  const struct timespec time = {.tv_nsec = ns};
  nanosleep(&time, NULL);
}

/* REQUIRES: the guest is not stopped meanwhile. */
static double ns_per_tick(void) {
  const uint64_t ticks = __rdtsc(), ns = monotonic_ns();
  sleep_ns(kCalibrationNs);
  return (double)(monotonic_ns() - ns) / (double)(__rdtsc() - ticks);
}

static void* watch(void* unused) {
  const double scale = ns_per_tick();
  uint64_t last = __rdtsc();
  for (;;) {
    sleep_ns(kSleepNs);
    const uint64_t now = __rdtsc();
    const uint64_t gap = (uint64_t)((double)(now - last) * scale);
    last = now;
    if (gap < kStallNs) continue;
    const uint64_t number = stalls + 1;
    length[number % kRemembered] = gap;
    stalls = number;
  }
  return unused;
}

static int longer_first(const void* a, const void* b) {
  const uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return (x < y) - (x > y);
}

void stalls_answer(uint64_t argument, uint64_t value[2]) {
  static int watching;
  static uint64_t forgotten, sorted[kRemembered];
  pthread_t thread;
  if (argument == 0) {
    if (!watching) watching = pthread_create(&thread, NULL, watch, NULL) == 0;
    forgotten = stalls;
    return;
  }
  const uint64_t until = stalls, all = until - forgotten;
  const uint64_t known = all < kRemembered - 1 ? all : kRemembered - 1;
  for (uint64_t i = 0; i < known; ++i) sorted[i] = length[(until - i) % kRemembered];
  qsort(sorted, known, sizeof *sorted, longer_first);
  value[0] = all;
  value[1] = argument <= known ? sorted[argument - 1] : 0;
}
