/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs in the lab's guest: sends a fresh random value every 10 ms (LAB_BEATS), remembers what it sent, and
 * answers questions about it (protocol.h). Announces on the console when Redis answers. One thread,
 * and one more when it is asked about stalls; linked statically. Usage: observer ADDRESS [CARD]
 * (where the beats go; every second one by that card).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "protocol.h"
#include "stalls.h"

enum { kBeatNs = 10 * 1000 * 1000, kNsPerS = 1000000000, kDirtyPagesMax = 16384, kPageBytes = 4096 };

struct Observer {
  int socket;
  int second; /* Bound to the second card, or the same again. */
  struct sockaddr_in outside;
  uint64_t counter, beat_ns; /* 0: no beats. */
  uint8_t history[LAB_HISTORY][16];
  uint8_t* dirty;
  uint64_t dirty_pages, dirty_next;
};

static uint64_t now_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct sockaddr_in address_of(uint32_t ip, uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = ip;
  return address;
}

/*
 * getrandom alone would not do: a promoted guest continues from a copy of the kernel's generator
 * and draws the same bytes again, so that a contradiction would look like a repetition. The time
 * stamp counter is never the same on both sides.
 */
static void fresh_random(uint8_t bytes[16]) {
  uint64_t stamp = __rdtsc() * 0x9e3779b97f4a7c15u;
  uint64_t half;
  if (getrandom(bytes, 16, 0) != 16) memset(bytes, 0, 16);
  memcpy(&half, bytes, sizeof half);
  half ^= stamp ^ (stamp >> 29);
  memcpy(bytes, &half, sizeof half);
}

static void send_beat(struct Observer* self) {
  struct LabBeat beat = {.magic = LAB_BEAT_MAGIC, .counter = ++self->counter};
  fresh_random(beat.random);
  /* Remembered before it is sent: what anybody saw is in the memory that a backup holds. */
  memcpy(self->history[beat.counter % LAB_HISTORY], beat.random, sizeof beat.random);
  sendto(beat.counter % 2 == 0 ? self->second : self->socket, &beat, sizeof beat, 0,
         (struct sockaddr*)&self->outside, sizeof self->outside);
}

static void write_pages(struct Observer* self) {
  for (uint64_t i = 0; i < self->dirty_pages; ++i) {
    uint64_t* page = (uint64_t*)(self->dirty + self->dirty_next * kPageBytes);
    for (int word = 0; word < 8; ++word) page[word * 64] = self->counter * 31 + i;
    self->dirty_next = (self->dirty_next + 1) % kDirtyPagesMax;
  }
}

/* The "Tcp:" line of values: RtoAlgorithm RtoMin RtoMax MaxConn ... OutSegs is 11th, RetransSegs
 * 12th. */
static void tcp_counters(uint64_t value[2]) {
  char line[1024];
  FILE* file = fopen("/proc/net/snmp", "re");
  if (file == NULL) return;
  for (int seen = 0; fgets(line, sizeof line, file) != NULL;) {
    unsigned long long out, again;
    if (strncmp(line, "Tcp: ", 5) != 0 || ++seen != 2) continue;
    if (sscanf(line, "Tcp: %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %llu %llu", &out, &again) == 2) {
      value[0] = again;
      value[1] = out;
    }
  }
  fclose(file);
}

static void end_guest(uint32_t kind) {
  if (kind == LAB_POWEROFF) reboot(RB_POWER_OFF);
  if (kind == LAB_REBOOT) reboot(RB_AUTOBOOT);
  if (kind == LAB_CRASH) {
    int trigger = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
    if (trigger < 0 || write(trigger, "c", 1) != 1) _exit(1);
  }
}

static struct LabKnown known_from(const struct Observer* self, uint64_t first) {
  struct LabKnown known = {.magic = LAB_ANSWER_MAGIC, .kind = LAB_KNOWN, .argument = first};
  for (uint64_t i = 0; i < LAB_RUN; ++i) {
    uint64_t counter = first + i;
    if (counter < 1 || counter > self->counter || self->counter - counter >= LAB_HISTORY) continue;
    known.remembered |= (uint64_t)1 << i;
    memcpy(known.random[i], self->history[counter % LAB_HISTORY], sizeof known.random[i]);
  }
  return known;
}

static void answer_query(struct Observer* self) {
  struct LabQuery query;
  struct sockaddr_in from;
  socklen_t from_size = sizeof from;
  ssize_t got = recvfrom(self->socket, &query, sizeof query, MSG_DONTWAIT, (struct sockaddr*)&from,
                         &from_size);
  if (got != (ssize_t)sizeof query || query.magic != LAB_QUERY_MAGIC) return;
  if (query.kind == LAB_KNOWN) {
    struct LabKnown known = known_from(self, query.argument);
    sendto(self->socket, &known, sizeof known, 0, (struct sockaddr*)&from, from_size);
    return;
  }
  struct LabAnswer answer = {
      .magic = LAB_ANSWER_MAGIC, .kind = query.kind, .argument = query.argument};
  switch (query.kind) {
    case LAB_CLOCK:
      answer.value[0] = now_ns(CLOCK_REALTIME);
      answer.value[1] = now_ns(CLOCK_MONOTONIC);
      break;
    case LAB_TCP: tcp_counters(answer.value); break;
    case LAB_STALLS: stalls_answer(query.argument, answer.value); break;
    case LAB_DIRTY:
      self->dirty_pages = query.argument < kDirtyPagesMax ? query.argument : kDirtyPagesMax;
      break;
    case LAB_BEATS: self->beat_ns = query.argument; break;
    default: break;
  }
  sendto(self->socket, &answer, sizeof answer, 0, (struct sockaddr*)&from, from_size);
  end_guest(query.kind);
}

static int redis_answers(void) {
  struct sockaddr_in redis = address_of(htonl(INADDR_LOOPBACK), 6379);
  struct timeval patience = {.tv_sec = 1};
  char reply[8] = {0};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  int answers = connect(fd, (struct sockaddr*)&redis, sizeof redis) == 0 &&
                write(fd, "PING\r\n", 6) == 6 && read(fd, reply, 5) == 5 &&
                memcmp(reply, "+PONG", 5) == 0;
  close(fd);
  return answers;
}

static void run(struct Observer* self) {
  uint64_t next = now_ns(CLOCK_MONOTONIC);
  for (int ready = 0;;) {
    uint64_t now = now_ns(CLOCK_MONOTONIC);
    struct pollfd readable = {.fd = self->socket, .events = POLLIN};
    if (self->beat_ns == 0) {
      if (ppoll(&readable, 1, NULL, NULL) > 0) answer_query(self);
      next = now_ns(CLOCK_MONOTONIC);
      continue;
    }
    if (now >= next) {
      send_beat(self);
      write_pages(self);
      if (!ready && self->counter % 10 == 0 && redis_answers()) {
        ready = 1;
        puts("libft-guest: ready");
      }
      /* After a long stop: no burst of the beats that were missed. */
      next = now - next > 5 * self->beat_ns ? now + self->beat_ns : next + self->beat_ns;
      continue;
    }
    uint64_t left = next - now;
    struct timespec wait = {.tv_sec = (time_t)(left / kNsPerS), .tv_nsec = (long)(left % kNsPerS)};
    if (ppoll(&readable, 1, &wait, NULL) > 0) answer_query(self);
  }
}

static int socket_by(const char* card) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, card, (socklen_t)strlen(card)) == 0) return fd;
  perror(card);
  exit(1);
}

int main(int argc, char** argv) {
  static struct Observer self;
  setvbuf(stdout, NULL, _IOLBF, 0);
  self.beat_ns = kBeatNs;
  in_addr_t outside = argc == 2 || argc == 3 ? inet_addr(argv[1]) : INADDR_NONE;
  if (outside == INADDR_NONE) {
    fputs("usage: observer ADDRESS [CARD]\n", stderr);
    return 2;
  }
  struct sockaddr_in here = address_of(htonl(INADDR_ANY), LAB_QUERY_PORT);
  self.outside = address_of(outside, LAB_BEAT_PORT);
  self.socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  self.second = argc == 3 ? socket_by(argv[2]) : self.socket;
  self.dirty = mmap(NULL, (size_t)kDirtyPagesMax * kPageBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (self.dirty == MAP_FAILED || bind(self.socket, (struct sockaddr*)&here, sizeof here) != 0) {
    perror("observer");
    return 1;
  }
  run(&self);
  return 0;
}
