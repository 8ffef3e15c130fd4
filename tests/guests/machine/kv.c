// SPDX-License-Identifier: LGPL-2.1-or-later
// A key-value server on UDP port 7777 of 10.0.0.2: "S key value" answers "OK", "G key" the value or
// "-". It also answers ARP. Its network interface is the machine's virtio one, polled by interrupt:
// without requests it sleeps. With a disk, it has the values from there, a sector each, and answers
// when one that was set is on it. Other harts, if there are any, count in memory that all share.
#include "runtime.h"

void *memcpy(void *to, const void *from, u64 n) {
  for (u64 i = 0; i < n; ++i) ((u8 *)to)[i] = ((const u8 *)from)[i];
  return to;
}

// --- virtio (1.2: 4.2, 2.7, 5.1) ----------------------------------------------------------------

enum { QUEUE = 16, FRAME = 2048, HEADER = 12 };
static volatile u32 *const device = (volatile u32 *)0x10001000;
static volatile u32 *const plic = (volatile u32 *)0xc000000;

struct queue {
  struct { u64 address; u32 bytes; u16 flags, next; } descriptors[QUEUE];
  struct { u16 flags, index, ring[QUEUE]; } available __attribute__((aligned(4)));
  struct { u16 flags, index; struct { u32 id, bytes; } ring[QUEUE]; } used __attribute__((aligned(8)));
};
static volatile struct queue receiving, sending;
static u8 buffers[QUEUE][FRAME], out[HEADER + FRAME];
static u8 mac[6];
static const u8 ip[4] = {10, 0, 0, 2};

static void set_up_queue(volatile u32 *device, u32 number, volatile struct queue *queue) {
  device[0x30 / 4] = number;
  device[0x38 / 4] = QUEUE;
  device[0x80 / 4] = (u32)(u64)queue->descriptors;
  device[0x84 / 4] = (u32)((u64)queue->descriptors >> 32);
  device[0x90 / 4] = (u32)(u64)&queue->available;
  device[0x94 / 4] = (u32)((u64)&queue->available >> 32);
  device[0xa0 / 4] = (u32)(u64)&queue->used;
  device[0xa4 / 4] = (u32)((u64)&queue->used >> 32);
  device[0x44 / 4] = 1;
}

static void offer(u16 buffer) {
  receiving.available.ring[receiving.available.index % QUEUE] = buffer;
  ++receiving.available.index;
}

static void set_up_device(void) {
  device[0x70 / 4] = 0;
  device[0x70 / 4] = 3;
  device[0x24 / 4] = 0;
  device[0x20 / 4] = 1 << 5;  // MAC
  device[0x24 / 4] = 1;
  device[0x20 / 4] = 1;  // VERSION_1
  device[0x70 / 4] = 11;
  set_up_queue(device, 0, &receiving);
  set_up_queue(device, 1, &sending);
  for (u16 i = 0; i < QUEUE; ++i) {
    receiving.descriptors[i].address = (u64)buffers[i];
    receiving.descriptors[i].bytes = FRAME;
    receiving.descriptors[i].flags = 2;
    offer(i);
  }
  device[0x70 / 4] = 15;
  for (int i = 0; i < 6; ++i) mac[i] = ((volatile u8 *)device)[0x100 + i];
}

static void send_frame(u32 bytes) {
  sending.descriptors[0].address = (u64)out;
  sending.descriptors[0].bytes = HEADER + bytes;
  sending.available.ring[sending.available.index % QUEUE] = 0;
  ++sending.available.index;
  device[0x50 / 4] = 1;  // Taken when this returns.
}

// --- the values ---------------------------------------------------------------------------------

enum { KEYS = 512, TEXT = 48 };
static struct { u8 key[TEXT], value[TEXT], key_bytes, value_bytes; } values[KEYS];

static int find(const u8 *key, u32 n) {
  int free = -1;
  for (int i = KEYS - 1; i >= 0; --i) {
    if (values[i].key_bytes == 0) free = i;
    if (values[i].key_bytes != n) continue;
    u32 same = 0;
    while (same < n && values[i].key[same] == key[same]) ++same;
    if (same == n) return i;
  }
  return free;
}

// --- the disk (virtio 1.2: 5.2) -----------------------------------------------------------------

enum { SECTOR = 512, READ = 0, WRITE = 1 };
static volatile u32 *const disk = (volatile u32 *)0x10002000;
static volatile struct queue requests;
static volatile struct { u32 kind, zero; u64 sector; } request;
static u8 sector[SECTOR];
static volatile u8 status;
static int has_disk;

// A place where no device is cannot be loaded from: that traps, to 1.
static u32 look(volatile u32 *at) {
  u32 value = 0;
  __asm__ volatile(
      "la t0, 1f\n csrw stvec, t0\n lw %0, 0(%1)\n j 2f\n .balign 4\n 1: li %0, 0\n 2:"
      : "=&r"(value) : "r"(at) : "t0", "memory");
  return value;
}

static void set_up_disk(void) {
  has_disk = look(disk) == 0x74726976 && disk[8 / 4] == 2;
  if (!has_disk) return;
  disk[0x70 / 4] = 0;
  disk[0x70 / 4] = 3;
  disk[0x24 / 4] = 1;
  disk[0x20 / 4] = 1;  // VERSION_1
  disk[0x70 / 4] = 11;
  set_up_queue(disk, 0, &requests);
  disk[0x70 / 4] = 15;
  requests.descriptors[0].address = (u64)&request;
  requests.descriptors[0].bytes = 16;
  requests.descriptors[0].flags = 1;
  requests.descriptors[0].next = 1;
  requests.descriptors[1].address = (u64)sector;
  requests.descriptors[1].bytes = SECTOR;
  requests.descriptors[1].next = 2;
  requests.descriptors[2].address = (u64)&status;
  requests.descriptors[2].bytes = 1;
  requests.descriptors[2].flags = 2;
}

static int on_disk(u32 kind, u32 number) {
  request.kind = kind;
  request.sector = number;
  status = 255;
  requests.descriptors[1].flags = kind == READ ? 3 : 1;
  requests.available.ring[requests.available.index % QUEUE] = 0;
  ++requests.available.index;
  __asm__ volatile("" ::: "memory");
  disk[0x50 / 4] = 0;  // Done when this returns.
  __asm__ volatile("" ::: "memory");
  return status == 0;
}

static void read_values(void) {
  if (!has_disk) return;
  for (int i = 0; i < KEYS; ++i)
    if (on_disk(READ, (u32)i)) memcpy(&values[i], sector, sizeof values[i]);
}

static int keep_value(int at) {
  if (!has_disk) return 1;
  memcpy(sector, &values[at], sizeof values[at]);
  return on_disk(WRITE, (u32)at);
}

// Returns the answer's length.
static u32 answer(const u8 *request, u32 n, u8 *to) {
  u32 end = 2;
  while (end < n && request[end] != ' ' && request[end] != '\n') ++end;
  u32 key_bytes = end - 2;
  int at = n > 2 && key_bytes > 0 && key_bytes <= TEXT ? find(request + 2, key_bytes) : -1;
  if (at >= 0 && request[0] == 'S' && end < n && n - end - 1 <= TEXT) {
    memcpy(values[at].key, request + 2, key_bytes);
    values[at].key_bytes = (u8)key_bytes;
    values[at].value_bytes = (u8)(n - end - 1);
    memcpy(values[at].value, request + end + 1, n - end - 1);
    memcpy(to, keep_value(at) ? "OK" : "no", 2);
    return 2;
  }
  if (at >= 0 && request[0] == 'G' && values[at].key_bytes != 0) {
    memcpy(to, values[at].value, values[at].value_bytes);
    return values[at].value_bytes;
  }
  to[0] = '-';
  return 1;
}

// --- frames -------------------------------------------------------------------------------------

static u16 big(const u8 *at) { return (u16)(at[0] << 8 | at[1]); }
static void set_big(u8 *at, u32 value) { at[0] = (u8)(value >> 8), at[1] = (u8)value; }
static int mine(const u8 *address) {
  return address[0] == ip[0] && address[1] == ip[1] && address[2] == ip[2] && address[3] == ip[3];
}

static void address_answer(const u8 *frame, u8 *reply) {
  memcpy(reply, frame + 6, 6);
  memcpy(reply + 6, mac, 6);
}

static void on_arp(const u8 *frame) {
  u8 *reply = out + HEADER;
  if (big(frame + 20) != 1 || !mine(frame + 38)) return;
  memcpy(reply, frame, 42);
  address_answer(frame, reply);
  set_big(reply + 20, 2);
  memcpy(reply + 22, mac, 6);
  memcpy(reply + 28, ip, 4);
  memcpy(reply + 32, frame + 22, 10);
  send_frame(42);
}

static void on_udp(const u8 *frame, u32 bytes) {
  u8 *reply = out + HEADER;
  u32 size = big(frame + 38);
  if (!mine(frame + 30) || big(frame + 36) != 7777 || size < 8 || 34 + size > bytes) return;
  u32 n = answer(frame + 42, size - 8, reply + 42);
  memcpy(reply, frame, 42);
  address_answer(frame, reply);
  set_big(reply + 16, 28 + n);
  memcpy(reply + 26, ip, 4);
  memcpy(reply + 30, frame + 26, 4);
  memcpy(reply + 34, frame + 36, 2);
  memcpy(reply + 36, frame + 34, 2);
  set_big(reply + 38, 8 + n);
  set_big(reply + 40, 0);  // No UDP checksum.
  set_big(reply + 24, 0);
  u32 sum = 0;
  for (int i = 14; i < 34; i += 2) sum += big(reply + i);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  set_big(reply + 24, ~sum);
  send_frame(42 + n);
}

static void on_frame(const u8 *frame, u32 bytes) {
  if (bytes >= 42 && big(frame + 12) == 0x0806) on_arp(frame);
  if (bytes >= 42 && big(frame + 12) == 0x0800 && frame[14] == 0x45 && frame[23] == 17)
    on_udp(frame, bytes);
}

static volatile u64 counted;

void guest_main(u64 hart, const void *device_tree) {
  (void)device_tree;
  while (hart != 0) counted += hart;
  for (u64 other = 1; other < 8; ++other) start_hart(other);
  set_up_device();
  set_up_disk();
  read_values();
  plic[1] = 1;                  // Priority of source 1,
  plic[0x2080 / 4] = 1 << 1;    // which context 1 takes.
  __asm__ volatile("csrs sie, %0" ::"r"(1 << 9));
  say("kv: ready\n");
  for (u16 seen = 0;;) {
    while (seen != receiving.used.index) {
      u32 id = receiving.used.ring[seen % QUEUE].id, bytes = receiving.used.ring[seen % QUEUE].bytes;
      ++seen;
      ++counted;
      if (bytes > HEADER) on_frame(buffers[id] + HEADER, bytes - HEADER);
      offer((u16)id);
      device[0x50 / 4] = 0;
    }
    __asm__ volatile("wfi");
    device[0x64 / 4] = device[0x60 / 4];
    plic[0x201004 / 4] = plic[0x201004 / 4];  // Claim, and complete.
  }
}
