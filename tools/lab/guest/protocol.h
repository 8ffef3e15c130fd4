/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What observer.c in the guest and an observer outside say to one another, in UDP datagrams, all
 * numbers little-endian. C and C++ on x86 include this; no padding anywhere.
 *
 * The guest sends a LabBeat about every 10 ms, unless told otherwise: a counter and random bytes that it made for it. Seen
 * twice with different bytes, or unknown to the guest that was promoted, a counter proves that
 * output left which the backup did not hold.
 */
#ifndef LIBFT_LAB_PROTOCOL_H
#define LIBFT_LAB_PROTOCOL_H

#include <stdint.h>

enum {
  LAB_BEAT_PORT = 7770,     /* Outside: beats arrive here. */
  LAB_QUERY_PORT = 7771,    /* In the guest. */
  LAB_HISTORY = 65536,      /* So many beats the guest remembers: about eleven minutes. */
  LAB_RUN = 64              /* Of so many it tells at once. */
};

#define LAB_BEAT_MAGIC 0x31425446u   /* "FTB1" */
#define LAB_QUERY_MAGIC 0x31515446u  /* "FTQ1" */
#define LAB_ANSWER_MAGIC 0x31415446u /* "FTA1" */

enum LabKind {
  LAB_NOTHING = 0,  /* Answered, and that is all. */
  LAB_KNOWN = 1,    /* argument: the first of LAB_RUN counters. Answered with a LabKnown. */
  LAB_CLOCK = 2,    /* value[0], [1]: CLOCK_REALTIME and CLOCK_MONOTONIC in nanoseconds. */
  LAB_TCP = 3,      /* value[0], [1]: RetransSegs and OutSegs of /proc/net/snmp. */
  LAB_DIRTY = 4,    /* argument: pages to write with each beat from now on, 0 to stop. */
  LAB_POWEROFF = 5, /* These three are answered, then done. */
  LAB_REBOOT = 6,
  LAB_CRASH = 7,
  LAB_STALLS = 8,   /* argument 0: watches for stalls from now on, and forgets earlier ones.
                     * argument n: value[0]: how many there were since; value[1]: the nth longest of
                     * them, in nanoseconds; 0: there were fewer. */
  LAB_BEATS = 9     /* argument: nanoseconds from one beat to the next from now on; 0: none are sent.
                     * In an x86 guest. */
};

struct LabBeat {
  uint32_t magic;
  uint32_t zero;
  uint64_t counter; /* From 1. */
  uint8_t random[16];
};

struct LabQuery {
  uint32_t magic;
  uint32_t kind;
  uint64_t argument;
};

struct LabAnswer {
  uint32_t magic;
  uint32_t kind;
  uint64_t argument; /* As asked. */
  uint64_t value[2];
};

/* Many in one datagram: an emulated guest with an emulated card answers about one a second. */
struct LabKnown {
  uint32_t magic;
  uint32_t kind;
  uint64_t argument;           /* As asked. */
  uint64_t remembered;         /* Bit i: counter argument + i. */
  uint8_t random[LAB_RUN][16]; /* What was sent with it; zeros when it is not remembered. */
};

#endif
