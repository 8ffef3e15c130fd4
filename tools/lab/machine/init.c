// SPDX-License-Identifier: LGPL-2.1-or-later
// The only process of the machine's Linux guest: sets the network up (ip=A.B.C.D on the kernel's
// command line), keeps values for whoever speaks Redis' protocol on TCP port 6379 (PING, SET, GET),
// and, with observer=A.B.C.D, is the lab's observer (../guest/protocol.h).
// Without a C library, because Debian's riscv64 one needs a floating-point unit.
#include "../guest/protocol.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum {
  SYS_dup3 = 24, SYS_ioctl = 29, SYS_mkdirat = 34, SYS_mount = 40, SYS_openat = 56, SYS_close = 57,
  SYS_read = 63, SYS_write = 64, SYS_ppoll = 73, SYS_reboot = 142, SYS_socket = 198,
  SYS_bind = 200, SYS_listen = 201, SYS_sendto = 206, SYS_recvfrom = 207, SYS_setsockopt = 208,
  SYS_clock_gettime = 113, SYS_accept4 = 242,
};

static long call6(long n, long a, long b, long c, long d, long e, long f) {
  register long a7 __asm__("a7") = n;
  register long a0 __asm__("a0") = a;
  register long a1 __asm__("a1") = b;
  register long a2 __asm__("a2") = c;
  register long a3 __asm__("a3") = d;
  register long a4 __asm__("a4") = e;
  register long a5 __asm__("a5") = f;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                   : "memory");
  return a0;
}
static long call(long n, long a, long b, long c, long d, long e) {
  return call6(n, a, b, c, d, e, 0);
}

static u64 length(const char *text) {
  u64 n = 0;
  while (text[n]) ++n;
  return n;
}

void *memcpy(void *to, const void *from, u64 n) {
  for (u64 i = 0; i < n; ++i) ((u8 *)to)[i] = ((const u8 *)from)[i];
  return to;
}
void *memset(void *to, int value, u64 n) {
  for (u64 i = 0; i < n; ++i) ((u8 *)to)[i] = (u8)value;
  return to;
}
static int equal(const u8 *a, const char *b, u64 n) {
  for (u64 i = 0; i < n; ++i)
    if ((a[i] & 0xdf) != (u8)b[i]) return 0;
  return 1;
}

static void say(const char *text) { call(SYS_write, 1, (long)text, (long)length(text), 0, 0); }
static void give_up(const char *what) {
  say("init: failed: ");
  say(what);
  say("\n");
  call(SYS_reboot, 0xfee1dead, 672274793, 0x4321fedc, 0, 0);
}
static long need(long result, const char *what) {
  if (result < 0) give_up(what);
  return result;
}

// --- the network ------------------------------------------------------------------------------

struct address { u16 family, port; u8 ip[4], pad[8]; };
struct request { char name[16]; union { struct address address; short flags; u8 pad[24]; } u; };

static const char *argument(char **environment, const char *name) {
  u64 n = length(name);
  for (; *environment; ++environment) {
    u64 i = 0;
    while (i < n && (*environment)[i] == name[i]) ++i;
    if (i == n && (*environment)[n] == '=') return *environment + n + 1;
  }
  return 0;
}

static void parse_ip(const char *text, u8 *ip) {
  for (int i = 0; i < 4; ++i, ++text) {
    u32 value = 0;
    for (; *text >= '0' && *text <= '9'; ++text) value = value * 10 + (u32)(*text - '0');
    ip[i] = (u8)value;
    if (!*text) return;
  }
}

static void interface_up(const char *name, const u8 *ip) {
  long s = need(call(SYS_socket, 2, 2, 0, 0, 0), "socket");
  struct request r;
  memset(&r, 0, sizeof r);
  memcpy(r.name, name, length(name));
  r.u.address.family = 2;
  memcpy(r.u.address.ip, ip, 4);
  need(call(SYS_ioctl, s, 0x8916, (long)&r, 0, 0), "SIOCSIFADDR");
  memset(r.u.address.ip, 255, 3);
  r.u.address.ip[3] = 0;
  need(call(SYS_ioctl, s, 0x891c, (long)&r, 0, 0), "SIOCSIFNETMASK");
  memset(r.u.pad, 0, sizeof r.u.pad);
  r.u.flags = 0x41;
  need(call(SYS_ioctl, s, 0x8914, (long)&r, 0, 0), "SIOCSIFFLAGS");
  call(SYS_close, s, 0, 0, 0, 0);
}

// --- the values -------------------------------------------------------------------------------

enum { TEXT_MAX = 120, SLOTS = 65536 };
struct text { u8 n, bytes[TEXT_MAX]; };
static struct { struct text key, value; } table[SLOTS];

static u32 slot_of(const u8 *key, u64 n) {
  u32 hash = 2166136261u;
  for (u64 i = 0; i < n; ++i) hash = (hash ^ key[i]) * 16777619u;
  for (u32 i = hash % SLOTS;; i = (i + 1) % SLOTS) {
    if (table[i].key.n == 0) return i;
    if (table[i].key.n != n) continue;
    u64 same = 0;
    while (same < n && table[i].key.bytes[same] == key[same]) ++same;
    if (same == n) return i;
  }
}
static void set_text(struct text *to, const u8 *from, u64 n) {
  to->n = (u8)n;
  memcpy(to->bytes, from, n);
}

// --- what the observer knows -------------------------------------------------------------------

enum { BEAT_NS = 10 * 1000 * 1000 };
static struct {
  long socket, random;
  struct address outside;
  u64 counter, next, heard;  // heard: a digest of all that came over the network.
  u8 history[LAB_HISTORY][16];
} observer;

static void remember_heard(const u8 *bytes, u64 n) {
  for (u64 i = 0; i < n; ++i) observer.heard = (observer.heard ^ bytes[i]) * 1099511628211u;
}

// --- the protocol -----------------------------------------------------------------------------

enum { CONNECTIONS = 16, BUFFER = 8192, ARGUMENTS = 4 };
struct connection { long fd; u32 got; u8 in[BUFFER]; };
static struct connection connections[CONNECTIONS];

static void send_all(long fd, const void *bytes, u64 n) {
  const u8 *at = bytes;
  while (n > 0) {
    long sent = call(SYS_write, fd, (long)at, (long)n, 0, 0);
    if (sent <= 0) return;
    at += sent;
    n -= (u64)sent;
  }
}

// A line's number behind its first character; -1: the line is not complete; -2: not such a line.
static long number_line(struct connection *c, u32 *at, u8 first) {
  u32 i = *at;
  if (i >= c->got) return -1;
  if (c->in[i++] != first) return -2;
  long value = 0;
  for (; i < c->got && c->in[i] >= '0' && c->in[i] <= '9'; ++i) value = value * 10 + c->in[i] - '0';
  if (i + 1 >= c->got) return -1;
  *at = i + 2;
  return value > BUFFER ? -2 : value;
}

static void answer(struct connection *c, const u8 **args, const u64 *sizes, long count) {
  if (count == 1 && sizes[0] == 4 && equal(args[0], "PING", 4)) {
    send_all(c->fd, "+PONG\r\n", 7);
  } else if (count == 3 && sizes[0] == 3 && equal(args[0], "SET", 3) && sizes[1] <= TEXT_MAX &&
             sizes[1] > 0 && sizes[2] <= TEXT_MAX) {
    u32 slot = slot_of(args[1], sizes[1]);
    set_text(&table[slot].key, args[1], sizes[1]);
    set_text(&table[slot].value, args[2], sizes[2]);
    send_all(c->fd, "+OK\r\n", 5);
  } else if (count == 2 && sizes[0] == 3 && equal(args[0], "GET", 3)) {
    u32 slot = slot_of(args[1], sizes[1]);
    if (table[slot].key.n == 0) {
      send_all(c->fd, "$-1\r\n", 5);
      return;
    }
    struct text *value = &table[slot].value;
    u8 out[TEXT_MAX + 16] = {'$', (u8)('0' + value->n / 100), (u8)('0' + value->n / 10 % 10),
                             (u8)('0' + value->n % 10), '\r', '\n'};
    memcpy(out + 6, value->bytes, value->n);
    out[6 + value->n] = '\r';
    out[7 + value->n] = '\n';
    send_all(c->fd, out, 8 + (u64)value->n);
  } else {
    send_all(c->fd, "-ERR not understood\r\n", 21);
  }
}

// Takes one request off the buffer. 1: taken; 0: not complete; -1: nonsense.
static int take_request(struct connection *c) {
  u32 at = 0;
  const u8 *args[ARGUMENTS];
  u64 sizes[ARGUMENTS];
  long count = number_line(c, &at, '*');
  if (count == -1) return 0;
  if (count < 1 || count > ARGUMENTS) return -1;
  for (long i = 0; i < count; ++i) {
    long size = number_line(c, &at, '$');
    if (size == -1) return 0;
    if (size < 0) return -1;
    if (at + (u32)size + 2 > c->got) return 0;
    args[i] = c->in + at;
    sizes[i] = (u64)size;
    at += (u32)size + 2;
  }
  answer(c, args, sizes, count);
  c->got -= at;
  for (u32 i = 0; i < c->got; ++i) c->in[i] = c->in[at + i];
  return 1;
}

static void hear(struct connection *c) {
  long n = call(SYS_read, c->fd, (long)(c->in + c->got), BUFFER - c->got, 0, 0);
  int taken = n > 0 ? 1 : -1;
  if (n > 0) remember_heard(c->in + c->got, (u64)n);
  if (n > 0) c->got += (u32)n;
  while (taken == 1) taken = take_request(c);
  if (taken == 0 && c->got < BUFFER) return;
  call(SYS_close, c->fd, 0, 0, 0, 0);
  c->fd = -1;
}

static void welcome(long listener) {
  long fd = call(SYS_accept4, listener, 0, 0, 0, 0);
  if (fd < 0) return;
  int one = 1;
  call(SYS_setsockopt, fd, 6, 1, (long)&one, sizeof one);  // TCP_NODELAY
  for (int i = 0; i < CONNECTIONS; ++i) {
    if (connections[i].fd >= 0) continue;
    connections[i].fd = fd;
    connections[i].got = 0;
    return;
  }
  call(SYS_close, fd, 0, 0, 0, 0);
}

static long open_listener(void) {
  long s = need(call(SYS_socket, 2, 1, 0, 0, 0), "socket");
  struct address any;
  memset(&any, 0, sizeof any);
  any.family = 2;
  any.port = (6379 & 255) << 8 | 6379 >> 8;
  need(call(SYS_bind, s, (long)&any, sizeof any, 0, 0), "bind");
  need(call(SYS_listen, s, CONNECTIONS, 0, 0, 0), "listen");
  return s;
}

// --- the observer ------------------------------------------------------------------------------

static u64 now_ns(long clock) {
  struct { long seconds, nanos; } now = {0, 0};
  call(SYS_clock_gettime, clock, (long)&now, 0, 0, 0);
  return (u64)now.seconds * 1000000000u + (u64)now.nanos;
}

// From the host, where the kernel has a driver for that; and all that the guest has come through: a
// guest that goes on from an earlier moment must not make the same bytes again by chance.
static void fresh_random(u8 *bytes) {
  memset(bytes, 0, 16);
  if (observer.random >= 0) call(SYS_read, observer.random, (long)bytes, 16, 0, 0);
  u64 lived = observer.heard ^ now_ns(1);
  for (int i = 0; i < 8; ++i) bytes[i] ^= (u8)(lived >> 8 * i);
}

static void open_observer(const char *outside) {
  struct address any;
  memset(&any, 0, sizeof any);
  any.family = 2;
  any.port = (LAB_QUERY_PORT & 255) << 8 | LAB_QUERY_PORT >> 8;
  observer.socket = need(call(SYS_socket, 2, 2, 0, 0, 0), "socket");
  need(call(SYS_bind, observer.socket, (long)&any, sizeof any, 0, 0), "bind");
  observer.outside = any;
  observer.outside.port = (LAB_BEAT_PORT & 255) << 8 | LAB_BEAT_PORT >> 8;
  parse_ip(outside, observer.outside.ip);
  observer.random = call(SYS_openat, -100, (long)"/dev/hwrng", 0, 0, 0);
  observer.next = now_ns(1);
}

static void send_beat(void) {
  struct LabBeat beat = {LAB_BEAT_MAGIC, 0, ++observer.counter, {0}};
  fresh_random(beat.random);
  memcpy(observer.history[beat.counter % LAB_HISTORY], beat.random, 16);
  call6(SYS_sendto, observer.socket, (long)&beat, sizeof beat, 0, (long)&observer.outside,
        sizeof observer.outside);
}

static const struct LabKnown *known_from(u64 first) {
  static struct LabKnown known;
  known = (struct LabKnown){.magic = LAB_ANSWER_MAGIC, .kind = LAB_KNOWN, .argument = first};
  for (u64 i = 0; i < LAB_RUN; ++i) {
    u64 counter = first + i;
    if (counter < 1 || counter > observer.counter || observer.counter - counter >= LAB_HISTORY)
      continue;
    known.remembered |= (u64)1 << i;
    memcpy(known.random[i], observer.history[counter % LAB_HISTORY], 16);
  }
  return &known;
}

static void answer_query(void) {
  struct LabQuery query;
  struct address from;
  int from_size = sizeof from;
  long got = call6(SYS_recvfrom, observer.socket, (long)&query, sizeof query, 0x40, (long)&from,
                   (long)&from_size);
  if (got != sizeof query || query.magic != LAB_QUERY_MAGIC) return;
  remember_heard((const u8 *)&query, sizeof query);
  if (query.kind == LAB_KNOWN) {
    call6(SYS_sendto, observer.socket, (long)known_from(query.argument), sizeof(struct LabKnown), 0,
          (long)&from, from_size);
    return;
  }
  struct LabAnswer answer = {LAB_ANSWER_MAGIC, query.kind, query.argument, {0, 0}};
  if (query.kind == LAB_CLOCK) {
    answer.value[0] = now_ns(0);
    answer.value[1] = now_ns(1);
  }
  call6(SYS_sendto, observer.socket, (long)&answer, sizeof answer, 0, (long)&from, from_size);
}

// How long until the next beat; those that are due are sent.
static long beat_when_due(void) {
  u64 now = now_ns(1);
  if (now < observer.next) return (long)(observer.next - now);
  send_beat();
  // After a long stop: no burst of the beats that were missed.
  observer.next = now - observer.next > 5 * BEAT_NS ? now + BEAT_NS : observer.next + BEAT_NS;
  return 0;
}

static void serve(long listener) {
  struct { int fd; short events, seen; } polled[CONNECTIONS + 2];
  for (;;) {
    struct { long seconds, nanos; } patience = {0, observer.socket < 0 ? 0 : beat_when_due()};
    polled[CONNECTIONS + 1].fd = (int)observer.socket;
    polled[CONNECTIONS + 1].events = 1;
    polled[0].fd = (int)listener;
    polled[0].events = 1;
    for (int i = 0; i < CONNECTIONS; ++i) {
      polled[i + 1].fd = (int)connections[i].fd;
      polled[i + 1].events = 1;
    }
    call(SYS_ppoll, (long)polled, CONNECTIONS + 2, observer.socket < 0 ? 0 : (long)&patience, 0, 8);
    if (observer.socket >= 0 && polled[CONNECTIONS + 1].seen) answer_query();
    for (int i = 0; i < CONNECTIONS; ++i)
      if (polled[i + 1].fd >= 0 && polled[i + 1].seen) hear(&connections[i]);
    if (polled[0].seen) welcome(listener);
  }
}

static void open_console(void) {
  call(SYS_mkdirat, -100, (long)"/dev", 0755, 0, 0);
  call(SYS_mount, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0);
  long fd = call(SYS_openat, -100, (long)"/dev/console", 2, 0, 0);
  for (int to = 0; to < 3; ++to)
    if (fd >= 0 && fd != to) call(SYS_dup3, fd, to, 0, 0, 0);
}

__attribute__((used)) void main_of_stack(long *stack) {
  char **environment = (char **)(stack + 1 + stack[0] + 1);
  open_console();
  say("init: here\n");
  for (int i = 0; i < CONNECTIONS; ++i) connections[i].fd = -1;
  const u8 loopback[4] = {127, 0, 0, 1};
  u8 ip[4] = {10, 0, 0, 2};
  const char *named = argument(environment, "ip");
  if (named) parse_ip(named, ip);
  interface_up("lo", loopback);
  interface_up("eth0", ip);
  const char *outside = argument(environment, "observer");
  observer.socket = -1;
  if (outside) open_observer(outside);
  if (argument(environment, "then_off")) give_up("nothing: asked to switch off");
  long listener = open_listener();
  say("init: ready\n");
  serve(listener);
}

// The linker reaches small data through gp, once there is enough of it near its own.
__asm__(
    ".globl _start\n_start:\n"
    "\t.option push\n\t.option norelax\n\tla gp, __global_pointer$\n\t.option pop\n"
    "\tmv a0, sp\n\tandi sp, sp, -16\n\tcall main_of_stack\n");
