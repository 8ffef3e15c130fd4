/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a stop of the guest costs inside the guest: a thread that sleeps a millisecond at a time, and
 * notes each time that it woke up late. By the time stamp counter, because the kernel's clocks stand
 * still while a guest is suspended. Part of observer.c.
 */
#ifndef LIBFT_LAB_STALLS_H
#define LIBFT_LAB_STALLS_H

#include <stdint.h>

/* LAB_STALLS of protocol.h. */
void stalls_answer(uint64_t argument, uint64_t value[2]);

#endif
