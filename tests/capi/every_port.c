/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An embedder in C that brings every part itself: a pair whose guest, gate, transport, dial, standby,
 * arbiter, detector, fence, log, events and completions are all this program's. The host of the
 * primary dies, its detector finds that out, the fence is called and the guest goes on. Also built
 * against the baseline's header, and run with the library of today.
 *
 *   every_port FOLDER */
#define main my_guest_main /* Its toy guest, and the standby of one. */
#include "my_guest.c"
#undef main

#include <time.h>

enum { WIRE = 1 << 20 };

/* How often each part was called, and its struct freed. */
enum part { ARBITER, DETECTOR, FENCE, TRANSPORT, DIAL, STANDBY, GATE, LOG, EVENTS, DONE, PARTS };
static const char *const kParts[PARTS] = {"arbiter", "detector", "fence", "transport", "dial",
                                          "standby", "gate",     "log",   "events",    "completion"};
static struct used { int called, given, freed; } used[PARTS];

static void freed(void *user) { ++((struct used *)user)->freed; }
static struct used *give(enum part part) { return ++used[part].given, &used[part]; }
#define HEAD(type, part) .struct_size = sizeof(type), .user = give(part), .free = freed

/* --- who decides: one record in memory -------------------------------------------------------- */

static char record[1024];

static int32_t create(void *user, ft_op *op, const char *guest, const char *wanted) {
  (void)guest, ++((struct used *)user)->called;
  if (record[0] != 0) return ft_op_answer(op, FT_ANSWER_LOST, record);
  snprintf(record, sizeof record, "%s", wanted);
  return ft_op_answer(op, FT_ANSWER_WON, record);
}
static int32_t swap(void *user, ft_op *op, const char *guest, const char *from, const char *to) {
  (void)guest, ++((struct used *)user)->called;
  if (strcmp(record, from) != 0) return ft_op_answer(op, FT_ANSWER_LOST, record);
  snprintf(record, sizeof record, "%s", to);
  return ft_op_answer(op, FT_ANSWER_WON, record);
}
static int32_t read_it(void *user, ft_op *op, const char *guest) {
  (void)user, (void)guest;
  return ft_op_answer(op, record[0] == 0 ? FT_ANSWER_MISSING : FT_ANSWER_FOUND, record);
}

/* --- who suspects: the primary's progress, which this program sees ---------------------------- */

static uint64_t watched_token;
static time_t beat;

static int32_t watch(void *user, ft_op *op, uint64_t token, uint16_t port, uint32_t dial_it) {
  (void)op, (void)port, ++((struct used *)user)->called;
  if (dial_it) watched_token = token;
  return beat = time(NULL), FT_OK;
}
static void progress(void *user, uint64_t token, uint64_t count) {
  (void)user, (void)token, (void)count;
  if (primary != NULL) beat = time(NULL);
}
static int32_t fence(void *user, ft_op *op, const char *guest, const char *loser) {
  (void)op, ++((struct used *)user)->called;
  return printf("fence: %s of %s\n", loser, guest), FT_OK;
}

/* --- what connects: two queues in memory, receivers that wait as operations ------------------- */

typedef struct queue {
  unsigned char bytes[WIRE];
  uint64_t from, to, capacity;
  ft_op *receiver;
  int closed;
} queue;
typedef struct end {
  queue *in, *out;
} end;

static void deliver(queue *it) {
  ft_op *op = it->receiver;
  uint64_t count = it->to - it->from < it->capacity ? it->to - it->from : it->capacity;
  if (op == NULL || (count == 0 && !it->closed)) return;
  it->receiver = NULL;
  ft_op_append(op, it->bytes + it->from, count);
  it->from += count;
  if (it->from == it->to) it->from = it->to = 0;
  ft_op_done(op, count > 0 ? FT_OK : FT_E_PEER_LOST);
}
static int32_t send_it(void *user, ft_op *op, const ft_bytes *pieces, uint64_t count) {
  queue *out = ((end *)user)->out;
  (void)op, ++used[TRANSPORT].called;
  for (uint64_t i = 0; i < count; ++i) {
    if (out->closed || pieces[i].count > WIRE - out->to) return FT_E_PEER_LOST;
    memcpy(out->bytes + out->to, pieces[i].data, pieces[i].count);
    out->to += pieces[i].count;
  }
  return deliver(out), FT_OK;
}
static int32_t receive_it(void *user, ft_op *op, uint64_t capacity) {
  queue *in = ((end *)user)->in;
  in->receiver = op;
  in->capacity = capacity;
  return deliver(in), FT_PENDING;
}
static void hang_up(void *user) {
  queue *both[] = {((end *)user)->in, ((end *)user)->out};
  for (int i = 0; i < 2; ++i) both[i]->closed = 1, deliver(both[i]);
}
static void cancel_receive(void *user, ft_op *op) {
  queue *in = ((end *)user)->in;
  if (in->receiver == op) in->receiver = NULL, ft_op_done(op, FT_E_CANCELLED);
}
static void end_freed(void *user) { ++used[TRANSPORT].freed, free(user); }

static ft_transport_port port_of_end(queue *in, queue *out) {
  end *it = calloc(1, sizeof *it);
  *it = (end){in, out};
  ++used[TRANSPORT].given;
  return (ft_transport_port){.struct_size = sizeof(ft_transport_port), .user = it,
                             .free = end_freed, .cancel = cancel_receive,
                             .description = "two queues", .authenticated = 1, .send = send_it,
                             .receive = receive_it, .close = hang_up};
}
static int32_t dial_queues(void *user, ft_op *op, uint32_t another_way) {
  static queue there, back; /* One connection is all that this program makes. */
  (void)another_way;
  if (((struct used *)user)->called++ > 0) return FT_E_PEER_LOST;
  const ft_transport_port far = port_of_end(&there, &back), near = port_of_end(&back, &there);
  ft_session_offer_transport(primary, &far, NULL);
  return ft_op_give_transport(op, &near);
}

/* --- what is told, and what holds ------------------------------------------------------------- */

static int32_t count_epoch(void *user, ft_op *op, uint64_t generation, uint64_t epoch) {
  (void)op, (void)generation, (void)epoch;
  return ++((struct used *)user)->called, FT_OK;
}
static ft_gate_port gate(void) {
  return (ft_gate_port){HEAD(ft_gate_port, GATE), .epochs_held_max = 8, .hold = nothing,
                        .seal = count_epoch, .release = count_epoch, .discard = nothing,
                        .open = nothing};
}
static int32_t make_mine(void *user, ft_op *op, const ft_guest_info *like) {
  (void)like, ++((struct used *)user)->called;
  standby = toy_new(0);
  ft_memory_region ram;
  const ft_guest_info info = info_of(standby, &ram);
  const ft_guest_port guest = port_of(standby);
  const ft_gate_port held = gate();
  return ft_op_give_replica(op, &info, &guest, &held);
}
static void on_log(void *user, int32_t level, const char *area, const char *text) {
  (void)level, (void)area, (void)text, ++((struct used *)user)->called;
}
static void on_event(void *user, const ft_event *event) {
  ++((struct used *)user)->called;
  if (event->json[0] == 0) printf("event: %s\n", event->name);
}
static void on_done(void *user, int32_t status, const char *text, const ft_error *error) {
  (void)text, ++((struct used *)user)->called;
  if (status < 0) printf("%s: %s\n", error->phase, error->cause);
}

static void set_common(ft_session *session) {
  const ft_arbiter_port arbiter = {HEAD(ft_arbiter_port, ARBITER), .description = "a string",
                                   .create = create, .swap = swap, .read = read_it};
  const ft_detector_port detector = {HEAD(ft_detector_port, DETECTOR), .port = 1, .start = watch,
                                     .progress = progress};
  const ft_fence_port silence = {HEAD(ft_fence_port, FENCE), .description = "a line", .fence = fence};
  const ft_log_sink log = {HEAD(ft_log_sink, LOG), .write = on_log};
  const ft_event_sink events = {HEAD(ft_event_sink, EVENTS), .event = on_event};
  ft_session_set_arbiter(session, &arbiter, NULL);
  ft_session_set_detector(session, &detector, NULL);
  ft_session_set_fence(session, &silence, NULL);
  ft_session_set_log(session, &log, NULL);
  ft_session_set_events(session, &events, NULL);
}

static void suspect(void) {
  if (primary == NULL && watched_token != 0 && time(NULL) - beat > 1 &&
      ft_session_heartbeat(backup, watched_token, FT_HEARTBEAT_SUSPECTED, 1000000000, 0, "silent",
                           NULL) == FT_OK)
    watched_token = 0;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  toy *guest = toy_new(1);
  ft_memory_region ram;
  const ft_guest_info info = info_of(guest, &ram);
  const ft_guest_port port = port_of(guest);
  primary = session_for(argv[1]);
  backup = session_for(argv[1]);
  set_common(primary);
  set_common(backup);
  const ft_gate_port held = gate();
  const ft_completion protect = {HEAD(ft_completion, DONE), .done = on_done};
  const ft_completion stand_by = {HEAD(ft_completion, DONE), .done = on_done};
  const ft_dial_port dialling = {HEAD(ft_dial_port, DIAL), .dial = dial_queues};
  const ft_standby_port making = {HEAD(ft_standby_port, STANDBY), .make = make_mine};
  if (ft_session_set_guest(primary, &info, &port, NULL) ||
      ft_session_set_gate(primary, &held, NULL) || ft_session_protect(primary, &protect, NULL) ||
      ft_session_run(primary, FT_UNTIL_WISHES, 10000, NULL) ||
      ft_session_set_dial(backup, &dialling, NULL) ||
      ft_session_set_standby(backup, &making, NULL) ||
      ft_session_stand_by(backup, &stand_by, NULL))
    return fprintf(stderr, "%s\n", ft_last_error()), 1;
  while (!is(primary, "protecting") || !is(backup, "in_sync")) turn(guest);

  ft_session *const dead = primary;
  primary = NULL;
  ft_session_free(dead);
  while (!standby->running) turn(standby), suspect();
  const uint64_t from = standby->counter;
  for (int i = 0; i < 100; ++i) turn(standby);
  int fine = from > 0 && standby->counter > from;
  puts(fine ? "the guest went on counting on the backup" : "the guest did not go on");
  ft_session_free(backup);
  for (int part = 0; part < PARTS; ++part) {
    const struct used *it = &used[part];
    printf("%s: called %d times, %d given, %d freed\n", kParts[part], it->called, it->given,
           it->freed);
    fine = fine && it->called > 0 && it->given > 0 && it->given == it->freed;
  }
  return fine ? 0 : 1;
}
